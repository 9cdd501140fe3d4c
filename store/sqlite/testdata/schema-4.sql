CREATE TABLE colls (
  id   INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
);
CREATE TABLE docs (
  coll INTEGER NOT NULL,              -- colls.id
  key  TEXT    NOT NULL,
  rev  INTEGER NOT NULL,
  data TEXT    NOT NULL, sum INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (coll, key)
) WITHOUT ROWID;
CREATE TABLE events (
  pos     INTEGER PRIMARY KEY,        -- place in the log
  stream  INTEGER NOT NULL,           -- streams.id
  version INTEGER NOT NULL,
  kind    INTEGER NOT NULL,           -- kinds.id
  id      BLOB    NOT NULL,           -- 16 bytes
  time    INTEGER NOT NULL,           -- microseconds since 1970, UTC
  data    BLOB    NOT NULL,
  meta    BLOB    NOT NULL,
  sum     INTEGER NOT NULL            -- CRC-32C, see sum.go
);
CREATE UNIQUE INDEX events_version ON events (stream, version);
CREATE TABLE gone (
  block INTEGER PRIMARY KEY,
  bits  BLOB NOT NULL
);
CREATE TABLE head (
  one    INTEGER PRIMARY KEY CHECK (one = 1),
  pos    INTEGER NOT NULL,
  stream INTEGER NOT NULL,            -- highest streams.id
  time   INTEGER NOT NULL
, sum INTEGER NOT NULL DEFAULT 0);
CREATE TABLE kinds (
  id       INTEGER PRIMARY KEY,
  category TEXT NOT NULL,
  type     TEXT NOT NULL,
  UNIQUE (category, type)
);
CREATE TABLE searched (
  coll   INTEGER PRIMARY KEY,         -- colls.id
  fields TEXT NOT NULL                -- whose text is searched: a JSON list
);
CREATE TABLE streams (
  id      INTEGER PRIMARY KEY,
  name    TEXT    NOT NULL UNIQUE,
  version INTEGER NOT NULL            -- of the last event
, sum INTEGER NOT NULL DEFAULT 0);
CREATE TABLE words (
  id   INTEGER PRIMARY KEY,
  coll INTEGER NOT NULL,
  key  TEXT    NOT NULL,
  sum  INTEGER NOT NULL,              -- of the document's words
  UNIQUE (coll, key)
);
