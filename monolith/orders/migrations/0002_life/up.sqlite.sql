-- SQLite cannot change a CHECK, so the table is written anew under its name, with its sequence: an id is never given out
-- twice. What was `placed` until now was promised to its user, and nothing was asked of others for it.
CREATE TABLE orders_orders_next (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    -- A user of another context: no foreign key crosses.
    user_id          INTEGER NOT NULL,
    -- Number of the document that an imported order came from.
    reference        TEXT UNIQUE,
    kind             TEXT NOT NULL CHECK (kind IN ('sale', 'cancellation')),
    status           TEXT NOT NULL
        CHECK (status IN ('pending', 'confirmed', 'rejected', 'cancelling', 'cancelled', 'cancel_failed')),
    -- Currency of the total and of every line.
    currency         TEXT NOT NULL,
    total_minor      INTEGER NOT NULL,
    placed_at_ms     INTEGER NOT NULL,
    confirmed_at_ms  INTEGER,
    -- When its user called it off. Pending with an instant here: its checkout has not noticed yet.
    cancelled_at_ms  INTEGER,
    rejected_because TEXT,
    -- Whether on account or by card; never a token.
    payment_method   TEXT CHECK (payment_method IN ('account', 'card')),
    -- A postal address as JSON.
    ship_to          TEXT,
    -- A cart of another context: no foreign key crosses.
    cart_id          TEXT,
    -- How far its parts have come, as JSON.
    cancellation     TEXT,
    CHECK ((status = 'rejected') = (rejected_because IS NOT NULL)),
    CHECK ((cancelled_at_ms IS NULL) = (cancellation IS NULL)),
    CHECK (status NOT IN ('cancelling', 'cancelled', 'cancel_failed') OR cancelled_at_ms IS NOT NULL),
    CHECK (status NOT IN ('confirmed', 'cancelling', 'cancel_failed') OR confirmed_at_ms IS NOT NULL)
) STRICT;

INSERT INTO orders_orders_next
    (id, user_id, reference, kind, status, currency, total_minor, placed_at_ms, confirmed_at_ms, cancelled_at_ms, cancellation)
SELECT id, user_id, reference, kind, CASE status WHEN 'placed' THEN 'confirmed' ELSE status END, currency, total_minor,
    placed_at_ms, placed_at_ms, cancelled_at_ms,
    CASE WHEN cancelled_at_ms IS NOT NULL
        THEN '{"stock":{"status":"done"},"payment":{"status":"done"},"shipment":{"status":"done"}}' END
FROM orders_orders ORDER BY id;

DELETE FROM sqlite_sequence WHERE name = 'orders_orders_next';
INSERT INTO sqlite_sequence (name, seq) SELECT 'orders_orders_next', seq FROM sqlite_sequence WHERE name = 'orders_orders';

DROP TABLE orders_orders;
ALTER TABLE orders_orders_next RENAME TO orders_orders;

CREATE INDEX orders_orders_user ON orders_orders (user_id, id);

-- A cart becomes one order. Partial, so that an import pays nothing for it.
CREATE UNIQUE INDEX orders_orders_cart ON orders_orders (cart_id) WHERE cart_id IS NOT NULL;
