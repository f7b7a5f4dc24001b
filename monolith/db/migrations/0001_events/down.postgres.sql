DROP TABLE banyan_inbox;
DROP TABLE banyan_outbox;
