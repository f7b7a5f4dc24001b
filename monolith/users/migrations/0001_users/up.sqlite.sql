CREATE TABLE users_users (
    -- AUTOINCREMENT, since the id of a removed user must never come back.
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT NOT NULL,
    email      TEXT NOT NULL UNIQUE,
    phone      TEXT,
    -- Compact JSON: an array of {"label","street","city","postcode","country"} in this order, absent parts null.
    addresses  TEXT NOT NULL,
    -- Such as 2010-12-01T08:26:00.000Z.
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    version    INTEGER NOT NULL
) STRICT;

-- What changed since a version is read at a cut-over.
CREATE INDEX users_users_version ON users_users (version);
