CREATE TABLE catalog_prices (
    product_id     INTEGER NOT NULL REFERENCES catalog_products (id) ON DELETE CASCADE,
    -- Of the product, when it got this price.
    version        INTEGER NOT NULL,
    price_minor    INTEGER NOT NULL CHECK (price_minor > 0),
    price_currency TEXT NOT NULL,
    since_ms       INTEGER NOT NULL,
    PRIMARY KEY (product_id, version)
) STRICT, WITHOUT ROWID;
