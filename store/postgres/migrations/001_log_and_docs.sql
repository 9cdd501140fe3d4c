-- Streams and event types are dictionaries, as on SQLite: an event row refers
-- to them by number.
CREATE TABLE streams (
  id      bigint NOT NULL PRIMARY KEY,
  name    text COLLATE "C" NOT NULL UNIQUE,
  version bigint NOT NULL             -- of the last event
) WITH (fillfactor = 70);             -- room to change versions in place
CREATE TABLE kinds (
  id       bigint NOT NULL PRIMARY KEY,
  category text COLLATE "C" NOT NULL,
  type     text COLLATE "C" NOT NULL,
  UNIQUE (category, type)
);
CREATE TABLE events (
  pos     bigint NOT NULL PRIMARY KEY, -- place in the log
  stream  bigint NOT NULL,             -- streams.id
  version bigint NOT NULL,
  kind    bigint NOT NULL,             -- kinds.id
  id      bytea  NOT NULL,             -- 16 bytes
  time    bigint NOT NULL,             -- microseconds since 1970, UTC
  data    bytea  NOT NULL,
  meta    bytea  NOT NULL,
  sum     bigint NOT NULL,             -- CRC-32C, see store.Summer
  UNIQUE (stream, version)
);
-- Who appends locks this row until the commit. So positions are handed out in
-- the order of commits, and a reader who has seen one has seen all before it.
CREATE TABLE head (
  one    smallint NOT NULL PRIMARY KEY CHECK (one = 1),
  pos    bigint NOT NULL,
  stream bigint NOT NULL,              -- highest streams.id
  time   bigint NOT NULL
);
INSERT INTO head VALUES (1, 0, 0, 0);
CREATE TABLE colls (
  id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text COLLATE "C" NOT NULL UNIQUE
);
-- The fields by which documents of a collection are looked up: the value of
-- field n is docs.fields[n], in a form whose byte order is the order of values.
CREATE TABLE fields (
  coll  bigint NOT NULL,               -- colls.id
  n     integer NOT NULL,
  field text COLLATE "C" NOT NULL,
  PRIMARY KEY (coll, n),
  UNIQUE (coll, field)
);
CREATE TABLE docs (
  coll   bigint NOT NULL,              -- colls.id
  key    bytea  NOT NULL,              -- UTF-8
  rev    bigint NOT NULL,
  data   bytea  NOT NULL,
  fields bytea[],
  PRIMARY KEY (coll, key)
);
-- For people who look with psql.
CREATE VIEW readable_events AS
  SELECT e.pos, s.name AS stream, e.version, k.type, to_timestamp(e.time / 1e6) AS time,
         convert_from(e.data, 'UTF8') AS data, convert_from(e.meta, 'UTF8') AS meta
    FROM events e JOIN streams s ON s.id = e.stream JOIN kinds k ON k.id = e.kind;
CREATE VIEW readable_docs AS
  SELECT c.name AS coll, convert_from(d.key, 'UTF8') AS key, d.rev, convert_from(d.data, 'UTF8') AS data
    FROM docs d JOIN colls c ON c.id = d.coll;
