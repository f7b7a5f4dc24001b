CREATE TABLE banyan_contexts (
    context     TEXT PRIMARY KEY,
    version     BIGINT NOT NULL DEFAULT 0,
    dual_write  BOOLEAN NOT NULL DEFAULT FALSE,
    fence       TEXT NOT NULL DEFAULT 'open' CHECK (fence IN ('open', 'closed')),
    fence_token BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE banyan_intents (
    context       TEXT NOT NULL,
    version       BIGINT NOT NULL,
    id            TEXT NOT NULL,
    state         TEXT,
    created_at_ms BIGINT NOT NULL,
    PRIMARY KEY (context, version)
);

-- Counting what waits must not read the states of all that waits.
CREATE INDEX banyan_intents_created_at ON banyan_intents (context, created_at_ms);

CREATE TABLE banyan_tombstones (
    context TEXT NOT NULL,
    id      TEXT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (context, id)
);

-- What was removed since a version is read at a cut-over.
CREATE INDEX banyan_tombstones_version ON banyan_tombstones (context, version);
