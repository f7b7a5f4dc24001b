DROP TABLE catalog_prices;
