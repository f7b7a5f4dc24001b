CREATE TABLE catalog_categories (
    -- AUTOINCREMENT, since the id of a removed category must never come back.
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    name      TEXT NOT NULL UNIQUE,
    parent_id INTEGER REFERENCES catalog_categories (id) CHECK (parent_id <> id),
    version   INTEGER NOT NULL CHECK (version > 0)
) STRICT;

CREATE INDEX catalog_categories_parent ON catalog_categories (parent_id) WHERE parent_id IS NOT NULL;

ALTER TABLE catalog_products ADD COLUMN category_id INTEGER REFERENCES catalog_categories (id);
ALTER TABLE catalog_products ADD COLUMN version INTEGER NOT NULL DEFAULT 1 CHECK (version > 0);

CREATE INDEX catalog_products_category ON catalog_products (category_id, id) WHERE category_id IS NOT NULL;
