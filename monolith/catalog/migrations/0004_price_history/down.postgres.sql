-- Prices stay: the step before made their table, and going back over it drops them.
SELECT 1;
