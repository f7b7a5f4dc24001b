-- An order without an entry at position 1 was imported: it was confirmed when it was placed.
CREATE TABLE orders_history (
    order_id INTEGER NOT NULL,
    position INTEGER NOT NULL CHECK (position > 0),
    status   TEXT NOT NULL,
    at_ms    INTEGER NOT NULL,
    note     TEXT,
    PRIMARY KEY (order_id, position)
) STRICT, WITHOUT ROWID;

INSERT INTO orders_history (order_id, position, status, at_ms)
SELECT id, 2, status, cancelled_at_ms FROM orders_orders WHERE status = 'cancelled';
