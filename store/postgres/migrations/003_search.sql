-- Documents that are found by their words, see store/postgres/search.go: the fields
-- of a collection whose text is searched, in order, and the words of each document.
CREATE TABLE searched (
  coll  bigint NOT NULL,               -- colls.id
  n     integer NOT NULL,
  field text COLLATE "C" NOT NULL,
  PRIMARY KEY (coll, n)
);
ALTER TABLE docs ADD COLUMN words tsvector;
