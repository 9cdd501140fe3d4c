-- Rows that are no events have checksums too: CRC-32C, see store/sqlite/sum.go.
ALTER TABLE streams ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE head    ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE docs    ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
UPDATE streams SET sum = stream_sum(name, id, version);
UPDATE head SET sum = head_sum(pos, stream, time);
UPDATE docs SET sum = doc_sum((SELECT c.name FROM colls c WHERE c.id = docs.coll), key, data) + rev;
