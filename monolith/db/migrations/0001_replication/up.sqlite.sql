CREATE TABLE banyan_contexts (
    context     TEXT PRIMARY KEY,
    version     INTEGER NOT NULL DEFAULT 0,
    dual_write  INTEGER NOT NULL DEFAULT 0,
    fence       TEXT NOT NULL DEFAULT 'open' CHECK (fence IN ('open', 'closed')),
    fence_token INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE banyan_intents (
    context       TEXT NOT NULL,
    version       INTEGER NOT NULL,
    id            TEXT NOT NULL,
    state         TEXT,
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (context, version)
) STRICT, WITHOUT ROWID;

-- Counting what waits must not read the states of all that waits.
CREATE INDEX banyan_intents_created_at ON banyan_intents (context, created_at_ms);

CREATE TABLE banyan_tombstones (
    context TEXT NOT NULL,
    id      TEXT NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (context, id)
) STRICT, WITHOUT ROWID;

-- What was removed since a version is read at a cut-over.
CREATE INDEX banyan_tombstones_version ON banyan_tombstones (context, version);
