DROP INDEX catalog_products_wordless;
ALTER TABLE catalog_products DROP COLUMN words;
