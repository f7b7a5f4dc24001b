-- The words as they are: PostgreSQL's own parser would split and join them by rules of its own.
ALTER TABLE catalog_products ADD COLUMN search TSVECTOR
    GENERATED ALWAYS AS (array_to_tsvector(string_to_array(words, ' '))) STORED;

CREATE INDEX catalog_products_search ON catalog_products USING gin (search);
