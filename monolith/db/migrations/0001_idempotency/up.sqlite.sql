CREATE TABLE banyan_idempotency (
    scope         TEXT NOT NULL,
    key           TEXT NOT NULL,
    fingerprint   TEXT NOT NULL,
    -- Empty only inside the transaction that carries the command out.
    result        TEXT,
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (key)
) STRICT, WITHOUT ROWID;

CREATE INDEX banyan_idempotency_created_at ON banyan_idempotency (created_at_ms);
