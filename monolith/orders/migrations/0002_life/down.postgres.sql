DROP INDEX orders_orders_cart;

ALTER TABLE orders_orders
    DROP CONSTRAINT orders_orders_status_check,
    DROP CONSTRAINT orders_orders_rejected_check,
    DROP CONSTRAINT orders_orders_cancellation_check,
    DROP CONSTRAINT orders_orders_cancelled_check,
    DROP CONSTRAINT orders_orders_confirmed_check;

-- What is not going to be delivered is cancelled, since when it was placed where nothing else is known.
UPDATE orders_orders SET
    cancelled_at_ms = CASE WHEN status = 'rejected' THEN placed_at_ms ELSE cancelled_at_ms END,
    status = CASE WHEN status = 'rejected' OR cancelled_at_ms IS NOT NULL THEN 'cancelled' ELSE 'placed' END;

ALTER TABLE orders_orders
    DROP COLUMN confirmed_at_ms,
    DROP COLUMN rejected_because,
    DROP COLUMN payment_method,
    DROP COLUMN ship_to,
    DROP COLUMN cart_id,
    DROP COLUMN cancellation,
    ADD CONSTRAINT orders_orders_status_check CHECK (status IN ('placed', 'cancelled'));
