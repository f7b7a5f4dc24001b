CREATE TABLE orders_orders_next (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    -- A user of another context: no foreign key crosses.
    user_id         INTEGER NOT NULL,
    -- Number of the document that an imported order came from.
    reference       TEXT UNIQUE,
    kind            TEXT NOT NULL CHECK (kind IN ('sale', 'cancellation')),
    status          TEXT NOT NULL CHECK (status IN ('placed', 'cancelled')),
    -- Currency of the total and of every line.
    currency        TEXT NOT NULL,
    total_minor     INTEGER NOT NULL,
    placed_at_ms    INTEGER NOT NULL,
    cancelled_at_ms INTEGER
) STRICT;

-- What is not going to be delivered is cancelled, since when it was placed where nothing else is known.
INSERT INTO orders_orders_next
    (id, user_id, reference, kind, status, currency, total_minor, placed_at_ms, cancelled_at_ms)
SELECT id, user_id, reference, kind,
    CASE WHEN status = 'rejected' OR cancelled_at_ms IS NOT NULL THEN 'cancelled' ELSE 'placed' END,
    currency, total_minor, placed_at_ms,
    CASE WHEN status = 'rejected' THEN placed_at_ms ELSE cancelled_at_ms END
FROM orders_orders ORDER BY id;

DELETE FROM sqlite_sequence WHERE name = 'orders_orders_next';
INSERT INTO sqlite_sequence (name, seq) SELECT 'orders_orders_next', seq FROM sqlite_sequence WHERE name = 'orders_orders';

DROP TABLE orders_orders;
ALTER TABLE orders_orders_next RENAME TO orders_orders;

CREATE INDEX orders_orders_user ON orders_orders (user_id, id);
