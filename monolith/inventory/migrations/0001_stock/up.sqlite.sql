CREATE TABLE inventory_warehouses (
    id   INTEGER PRIMARY KEY AUTOINCREMENT,
    code TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL
) STRICT;

CREATE TABLE inventory_stock (
    product_id   INTEGER NOT NULL,
    warehouse_id INTEGER NOT NULL REFERENCES inventory_warehouses (id),
    on_hand      INTEGER NOT NULL,
    reserved     INTEGER NOT NULL,
    PRIMARY KEY (product_id, warehouse_id),
    CHECK (0 <= reserved AND reserved <= on_hand)
) STRICT, WITHOUT ROWID;

CREATE TABLE inventory_adjustments (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    product_id     INTEGER NOT NULL,
    warehouse_id   INTEGER NOT NULL REFERENCES inventory_warehouses (id),
    delta          INTEGER NOT NULL CHECK (delta <> 0),
    reason         TEXT NOT NULL,
    request_id     TEXT NOT NULL,
    adjusted_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE inventory_reservations (
    order_id      INTEGER PRIMARY KEY,
    status        TEXT NOT NULL CHECK (status IN ('held', 'confirmed', 'released')),
    expires_at_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX inventory_reservations_by_expiry ON inventory_reservations (expires_at_ms) WHERE status = 'held';

CREATE TABLE inventory_reservation_lines (
    order_id     INTEGER NOT NULL REFERENCES inventory_reservations (order_id),
    product_id   INTEGER NOT NULL,
    warehouse_id INTEGER NOT NULL,
    quantity     INTEGER NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (order_id, product_id, warehouse_id)
) STRICT, WITHOUT ROWID;
