-- One row per event and consumer that has not taken it yet.
CREATE TABLE banyan_outbox (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id         TEXT NOT NULL,
    consumer         TEXT NOT NULL,
    aggregate        TEXT NOT NULL CHECK (aggregate <> ''),
    kind             TEXT NOT NULL,
    payload          TEXT NOT NULL,
    request_id       TEXT NOT NULL,
    traceparent      TEXT,
    occurred_at_ms   INTEGER NOT NULL,
    available_at_ms  INTEGER NOT NULL,
    attempts         INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    claimed_by       TEXT,
    claimed_until_ms INTEGER,
    last_error       TEXT,
    dead_at_ms       INTEGER,
    CHECK ((claimed_by IS NULL) = (claimed_until_ms IS NULL))
) STRICT;

-- The oldest row of each aggregate is found by one step per aggregate, however many rows wait behind it.
CREATE INDEX banyan_outbox_order ON banyan_outbox (consumer, aggregate, id);

-- What each consumer has taken, so that a repeat has no effect.
CREATE TABLE banyan_inbox (
    consumer      TEXT NOT NULL,
    event_id      TEXT NOT NULL,
    handled_at_ms INTEGER NOT NULL,
    PRIMARY KEY (consumer, event_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX banyan_inbox_handled_at ON banyan_inbox (handled_at_ms);
