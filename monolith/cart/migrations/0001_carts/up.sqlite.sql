CREATE TABLE cart_carts (
    -- 32 random hexadecimal digits.
    id            TEXT PRIMARY KEY CHECK (length(id) = 32),
    user_id       INTEGER,
    status        TEXT NOT NULL CHECK (status IN ('open', 'merged', 'checked_out')),
    order_id      INTEGER CHECK ((order_id IS NOT NULL) = (status = 'checked_out')),
    -- The cart that has its items now.
    merged_into   TEXT REFERENCES cart_carts (id) CHECK ((merged_into IS NOT NULL) = (status = 'merged')),
    version       INTEGER NOT NULL CHECK (version > 0),
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX cart_open_of_user ON cart_carts (user_id) WHERE status = 'open';

CREATE TABLE cart_items (
    cart_id             TEXT NOT NULL REFERENCES cart_carts (id),
    product_id          INTEGER NOT NULL,
    quantity            INTEGER NOT NULL CHECK (quantity BETWEEN 1 AND 1000000),
    unit_price_minor    INTEGER NOT NULL CHECK (unit_price_minor > 0),
    unit_price_currency TEXT NOT NULL CHECK (length(unit_price_currency) = 3),
    PRIMARY KEY (cart_id, product_id)
) STRICT, WITHOUT ROWID;
