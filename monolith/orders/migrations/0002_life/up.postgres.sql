ALTER TABLE orders_orders
    DROP CONSTRAINT orders_orders_status_check,
    ADD COLUMN confirmed_at_ms  BIGINT,
    ADD COLUMN rejected_because TEXT,
    -- Whether on account or by card; never a token.
    ADD COLUMN payment_method   TEXT CHECK (payment_method IN ('account', 'card')),
    -- A postal address as JSON.
    ADD COLUMN ship_to          TEXT,
    -- A cart of another context: no foreign key crosses.
    ADD COLUMN cart_id          TEXT,
    -- How far its parts have come, as JSON.
    ADD COLUMN cancellation     TEXT;

-- What was `placed` until now was promised to its user, and nothing was asked of others for it.
UPDATE orders_orders SET
    status = CASE status WHEN 'placed' THEN 'confirmed' ELSE status END,
    confirmed_at_ms = placed_at_ms,
    cancellation = CASE WHEN cancelled_at_ms IS NOT NULL
        THEN '{"stock":{"status":"done"},"payment":{"status":"done"},"shipment":{"status":"done"}}' END;

-- An order that is pending with a `cancelled_at_ms` was called off, and its checkout has not noticed yet.
ALTER TABLE orders_orders
    ADD CONSTRAINT orders_orders_status_check
        CHECK (status IN ('pending', 'confirmed', 'rejected', 'cancelling', 'cancelled', 'cancel_failed')),
    ADD CONSTRAINT orders_orders_rejected_check
        CHECK ((status = 'rejected') = (rejected_because IS NOT NULL)),
    ADD CONSTRAINT orders_orders_cancellation_check
        CHECK ((cancelled_at_ms IS NULL) = (cancellation IS NULL)),
    ADD CONSTRAINT orders_orders_cancelled_check
        CHECK (status NOT IN ('cancelling', 'cancelled', 'cancel_failed') OR cancelled_at_ms IS NOT NULL),
    ADD CONSTRAINT orders_orders_confirmed_check
        CHECK (status NOT IN ('confirmed', 'cancelling', 'cancel_failed') OR confirmed_at_ms IS NOT NULL);

-- A cart becomes one order. Partial, so that an import pays nothing for it.
CREATE UNIQUE INDEX orders_orders_cart ON orders_orders (cart_id) WHERE cart_id IS NOT NULL;
