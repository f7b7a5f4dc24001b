DROP INDEX catalog_products_search;
ALTER TABLE catalog_products DROP COLUMN search;
