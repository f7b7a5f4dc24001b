DROP TABLE orders_history;
