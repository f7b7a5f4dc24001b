DROP TABLE address;
DROP TABLE contact;
DROP TABLE person;
