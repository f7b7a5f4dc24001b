-- The history of a product begins with the price that it has. When that came into force is not known; at the last change
-- it was there.
INSERT INTO catalog_prices (product_id, version, price_minor, price_currency, since_ms)
SELECT id, version, price_minor, price_currency, updated_at_ms FROM catalog_products
WHERE NOT EXISTS (SELECT 1 FROM catalog_prices WHERE product_id = id);
