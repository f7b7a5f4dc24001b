CREATE TABLE banyan_sagas (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    kind          TEXT NOT NULL,
    key           TEXT NOT NULL,
    phase         TEXT NOT NULL CHECK (phase IN ('running', 'compensating', 'done', 'undone')),
    -- While running, how many steps are done; while compensating, how many may have left something.
    position      INTEGER NOT NULL CHECK (position >= 0),
    state         TEXT NOT NULL,
    attempts      INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    -- When to look at it next; while it is claimed, the end of the claim.
    due_at_ms     INTEGER NOT NULL,
    claimed_by    TEXT,
    last_error    TEXT,
    reason        TEXT,
    log_length    INTEGER NOT NULL DEFAULT 0,
    request_id    TEXT NOT NULL,
    traceparent   TEXT,
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    UNIQUE (kind, key)
) STRICT;

CREATE INDEX banyan_sagas_due ON banyan_sagas (kind, due_at_ms) WHERE phase IN ('running', 'compensating');
CREATE INDEX banyan_sagas_ended ON banyan_sagas (updated_at_ms) WHERE phase IN ('done', 'undone');

CREATE TABLE banyan_saga_log (
    saga_id  INTEGER NOT NULL REFERENCES banyan_sagas (id) ON DELETE CASCADE,
    sequence INTEGER NOT NULL,
    step     TEXT NOT NULL,
    way      TEXT NOT NULL CHECK (way IN ('run', 'undo')),
    outcome  TEXT NOT NULL CHECK (outcome IN ('started', 'done', 'refused', 'retry')),
    at_ms    INTEGER NOT NULL,
    note     TEXT,
    PRIMARY KEY (saga_id, sequence)
) STRICT, WITHOUT ROWID;
