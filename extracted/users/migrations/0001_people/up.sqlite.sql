CREATE TABLE person (
    -- AUTOINCREMENT, since the id of a removed person must never come back.
    person_id     INTEGER PRIMARY KEY AUTOINCREMENT,
    given_name    TEXT NOT NULL,
    -- Null for names of one word.
    family_name   TEXT,
    registered_ms INTEGER NOT NULL,
    changed_ms    INTEGER NOT NULL,
    row_version   INTEGER NOT NULL
) STRICT;

-- What changed since a version is read at a cut-over.
CREATE INDEX person_version ON person (row_version);

CREATE TABLE contact (
    person_id INTEGER NOT NULL,
    kind      TEXT NOT NULL CHECK (kind IN ('email', 'phone')),
    value     TEXT NOT NULL,
    PRIMARY KEY (person_id, kind)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX contact_email ON contact (value) WHERE kind = 'email';

CREATE TABLE address (
    person_id INTEGER NOT NULL,
    position  INTEGER NOT NULL,
    label     TEXT NOT NULL,
    street    TEXT,
    city      TEXT,
    postcode  TEXT,
    country   TEXT NOT NULL,
    PRIMARY KEY (person_id, position)
) STRICT, WITHOUT ROWID;
