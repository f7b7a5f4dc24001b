DROP INDEX catalog_products_category;
ALTER TABLE catalog_products DROP COLUMN version;
ALTER TABLE catalog_products DROP COLUMN category_id;
DROP TABLE catalog_categories;
