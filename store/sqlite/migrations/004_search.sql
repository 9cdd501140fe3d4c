-- Documents that are found by their words, see store/sqlite/search.go. Each
-- collection among them has an index of its own, search_N, which knows documents by id.
CREATE TABLE searched (
  coll   INTEGER PRIMARY KEY,         -- colls.id
  fields TEXT NOT NULL                -- whose text is searched: a JSON list
);
CREATE TABLE words (
  id   INTEGER PRIMARY KEY,
  coll INTEGER NOT NULL,
  key  TEXT    NOT NULL,
  sum  INTEGER NOT NULL,              -- of the document's words
  UNIQUE (coll, key)
);
