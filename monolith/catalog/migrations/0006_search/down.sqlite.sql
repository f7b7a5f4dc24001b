DROP TRIGGER catalog_search_added;
DROP TRIGGER catalog_search_changed;
DROP TRIGGER catalog_search_removed;
DROP TABLE catalog_search;
