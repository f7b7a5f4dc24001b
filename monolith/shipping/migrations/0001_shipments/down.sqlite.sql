DROP TABLE shipping_steps;
DROP TABLE shipping_shipments;
