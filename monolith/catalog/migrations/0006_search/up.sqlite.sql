-- Keeps no copy of the words. The tokenizer splits at blanks only, since every other character of a folded word is an
-- ASCII letter or digit, or not ASCII.
CREATE VIRTUAL TABLE catalog_search USING fts5 (
    words, content = 'catalog_products', content_rowid = 'id', tokenize = 'ascii', detail = none, columnsize = 0
);

CREATE TRIGGER catalog_search_added AFTER INSERT ON catalog_products WHEN new.words IS NOT NULL
BEGIN
    INSERT INTO catalog_search (rowid, words) VALUES (new.id, new.words);
END;

CREATE TRIGGER catalog_search_changed AFTER UPDATE OF words ON catalog_products WHEN new.words IS NOT old.words
BEGIN
    INSERT INTO catalog_search (catalog_search, rowid, words)
        SELECT 'delete', old.id, old.words WHERE old.words IS NOT NULL;
    INSERT INTO catalog_search (rowid, words) SELECT new.id, new.words WHERE new.words IS NOT NULL;
END;

CREATE TRIGGER catalog_search_removed AFTER DELETE ON catalog_products WHEN old.words IS NOT NULL
BEGIN
    INSERT INTO catalog_search (catalog_search, rowid, words) VALUES ('delete', old.id, old.words);
END;

INSERT INTO catalog_search (rowid, words) SELECT id, words FROM catalog_products WHERE words IS NOT NULL;
