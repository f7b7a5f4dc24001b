DROP TABLE banyan_saga_log;
DROP TABLE banyan_sagas;
