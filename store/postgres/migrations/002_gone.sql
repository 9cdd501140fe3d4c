-- The positions whose records were given up: a bit for each, in blocks, see
-- store.Gaps. Whatever else is missing from the log is damage.
CREATE TABLE gone (
  block bigint NOT NULL PRIMARY KEY,
  bits  bit(4096) NOT NULL
);
