CREATE TABLE banyan_idempotency (
    scope         TEXT COLLATE "C" NOT NULL,
    key           TEXT COLLATE "C" NOT NULL,
    fingerprint   TEXT NOT NULL,
    -- Empty only inside the transaction that carries the command out.
    result        TEXT,
    created_at_ms BIGINT NOT NULL,
    PRIMARY KEY (key)
) WITH (fillfactor = 70);

CREATE INDEX banyan_idempotency_created_at ON banyan_idempotency (created_at_ms);
