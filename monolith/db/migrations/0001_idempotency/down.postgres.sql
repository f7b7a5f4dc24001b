DROP TABLE banyan_idempotency;
