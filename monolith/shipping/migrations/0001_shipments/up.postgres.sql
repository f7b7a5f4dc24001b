CREATE TABLE shipping_shipments (
    order_id      BIGINT PRIMARY KEY,
    tracking_code TEXT UNIQUE,
    address       TEXT,
    status        TEXT NOT NULL CHECK (status IN ('scheduled', 'handed_over', 'delivered', 'stopped')),
    CHECK (status = 'stopped' OR tracking_code IS NOT NULL)
);

CREATE TABLE shipping_steps (
    order_id BIGINT NOT NULL REFERENCES shipping_shipments (order_id),
    status   TEXT NOT NULL CHECK (status IN ('scheduled', 'handed_over', 'delivered', 'stopped')),
    at_ms    BIGINT NOT NULL,
    PRIMARY KEY (order_id, status)
);
