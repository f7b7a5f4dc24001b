-- What a search finds the product by: the words of name and sku as the program folds them, parted by blanks. Nothing until
-- the program has done so for a product that is older than this step.
ALTER TABLE catalog_products ADD COLUMN words TEXT;

CREATE INDEX catalog_products_wordless ON catalog_products (id) WHERE words IS NULL;
