-- The positions whose records were given up: a bit for each, in blocks, see
-- store.Gaps. Whatever else is missing from the log is damage.
CREATE TABLE gone (
  block INTEGER PRIMARY KEY,
  bits  BLOB NOT NULL
);
