CREATE TABLE orders_orders (
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

CREATE INDEX orders_orders_user ON orders_orders (user_id, id);

-- Lines are only ever written with their order and never removed alone, so no foreign key is paid for.
CREATE TABLE orders_lines (
    order_id         INTEGER NOT NULL,
    position         INTEGER NOT NULL,
    product_id       INTEGER NOT NULL,
    quantity         INTEGER NOT NULL CHECK (quantity > 0),
    unit_price_minor INTEGER NOT NULL,
    PRIMARY KEY (order_id, position)
) STRICT, WITHOUT ROWID;
