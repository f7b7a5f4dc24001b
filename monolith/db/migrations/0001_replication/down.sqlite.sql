DROP TABLE banyan_tombstones;
DROP TABLE banyan_intents;
DROP TABLE banyan_contexts;
