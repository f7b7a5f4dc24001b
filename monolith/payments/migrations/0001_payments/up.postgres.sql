CREATE TABLE payments_payments (
    order_id         BIGINT PRIMARY KEY,
    -- Names the payment to the provider: unique over all installations that share an account there.
    provider_key     TEXT UNIQUE,
    amount_minor     BIGINT CHECK (amount_minor > 0),
    currency         TEXT,
    method           TEXT CHECK (method IN ('account', 'card')),
    -- What the buyer pays with; kept only until the provider has decided.
    token            TEXT,
    status           TEXT NOT NULL
                     CHECK (status IN ('pending', 'authorised', 'captured', 'declined', 'refunded')),
    provider_id      TEXT,
    declined_because TEXT,
    -- From here on nothing is promised or taken; the provider may not have heard of it yet.
    refund_asked_at  BIGINT,
    created_at       BIGINT NOT NULL,
    updated_at       BIGINT NOT NULL,
    -- Without an amount stands what was refunded before it had a payment.
    CHECK ((amount_minor IS NULL) = (currency IS NULL) AND (amount_minor IS NULL) = (method IS NULL)),
    CHECK (amount_minor IS NOT NULL OR status = 'refunded'),
    CHECK ((method IS NOT NULL AND method = 'card') = (provider_key IS NOT NULL)),
    CHECK ((token IS NOT NULL) = (status = 'pending' AND refund_asked_at IS NULL)),
    CHECK (status NOT IN ('authorised', 'captured') OR method = 'account' OR provider_id IS NOT NULL),
    CHECK (status <> 'declined' OR declined_because IS NOT NULL),
    CHECK (status <> 'refunded' OR refund_asked_at IS NOT NULL)
);
