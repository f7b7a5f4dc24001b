CREATE TABLE shipping_shipments (
    order_id      INTEGER PRIMARY KEY,
    tracking_code TEXT UNIQUE,
    address       TEXT,
    status        TEXT NOT NULL CHECK (status IN ('scheduled', 'handed_over', 'delivered', 'stopped')),
    CHECK (status = 'stopped' OR tracking_code IS NOT NULL)
) STRICT;

CREATE TABLE shipping_steps (
    order_id INTEGER NOT NULL REFERENCES shipping_shipments (order_id),
    status   TEXT NOT NULL CHECK (status IN ('scheduled', 'handed_over', 'delivered', 'stopped')),
    at_ms    INTEGER NOT NULL,
    PRIMARY KEY (order_id, status)
) STRICT, WITHOUT ROWID;
