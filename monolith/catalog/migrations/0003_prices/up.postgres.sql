CREATE TABLE catalog_prices (
    product_id     BIGINT NOT NULL REFERENCES catalog_products (id) ON DELETE CASCADE,
    -- Of the product, when it got this price.
    version        BIGINT NOT NULL,
    price_minor    BIGINT NOT NULL CHECK (price_minor > 0),
    price_currency TEXT NOT NULL,
    since_ms       BIGINT NOT NULL,
    PRIMARY KEY (product_id, version)
);
