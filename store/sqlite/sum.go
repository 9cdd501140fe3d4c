package sqlite

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	lib "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/deed-dev/deed/store"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// withSums is the first schema with checksums in rows that are no events.
const withSums = 3

// Events have the checksum of package store. The other rows that readers rely
// on have one of their own (CRC-32C), so that damage is never a shorter stream
// or another document. The layouts are part of the stored format.
type summer struct {
	store.Summer
	buf []byte
}

// stream is the checksum of a stream's row: name, 0, id, version (8 bytes
// each, big-endian).
func (s *summer) stream(name string, id int64, version uint64) int64 {
	b := append(append(s.buf[:0], name...), 0)
	b = binary.BigEndian.AppendUint64(b, uint64(id))
	b = binary.BigEndian.AppendUint64(b, version)
	return s.crc(b)
}

// head is the checksum of where the log ends: position, highest number of a
// stream, time (8 bytes each, big-endian).
func (s *summer) head(pos uint64, stream, time int64) int64 {
	b := binary.BigEndian.AppendUint64(s.buf[:0], pos)
	b = binary.BigEndian.AppendUint64(b, uint64(stream))
	b = binary.BigEndian.AppendUint64(b, uint64(time))
	return s.crc(b)
}

// doc is the checksum of a document without its revision: collection, 0, key,
// 0, data. What is stored is this plus the revision: a statement that counts
// the revision up counts the sum up with it.
func (s *summer) doc(coll, key string, data []byte) int64 {
	b := append(append(s.buf[:0], coll...), 0)
	b = append(append(b, key...), 0)
	return int64(crc32.Update(uint32(s.crc(b)), castagnoli, data))
}

func (s *summer) crc(b []byte) int64 {
	s.buf = b
	return int64(crc32.Checksum(b, castagnoli))
}

// damaged is the error for what is not as it was written.
func (s *Store) damaged(what string, args ...any) error {
	return fmt.Errorf("%w: sqlite: %s: %s: run deed check, restore a backup", store.ErrCorrupt, s.path, fmt.Sprintf(what, args...))
}

// beforeSums prepares for the migration that gives old rows their sums. Streams
// are compared with their events first: a sum must not make damage look sound.
func beforeSums(c *lib.Conn) error {
	err := sqlitex.ExecuteTransient(c, "SELECT name, version, last FROM (SELECT name, version, (SELECT max(e.version) FROM events e WHERE e.stream = s.id) AS last FROM streams s) WHERE last IS NOT version LIMIT 1",
		&sqlitex.ExecOptions{ResultFunc: func(st *lib.Stmt) error {
			return fmt.Errorf("%w: stream %s is at version %d and its last event is %d: run deed check, restore a backup",
				store.ErrCorrupt, st.ColumnText(0), st.ColumnInt64(1), st.ColumnInt64(2))
		}})
	var sums summer
	for name, f := range map[string]func([]lib.Value) int64{
		"stream_sum": func(args []lib.Value) int64 {
			return sums.stream(args[0].Text(), args[1].Int64(), uint64(args[2].Int64()))
		},
		"head_sum": func(args []lib.Value) int64 {
			return sums.head(uint64(args[0].Int64()), args[1].Int64(), args[2].Int64())
		},
		"doc_sum": func(args []lib.Value) int64 { return sums.doc(args[0].Text(), args[1].Text(), []byte(args[2].Text())) },
	} {
		if err == nil {
			err = c.CreateFunction(name, &lib.FunctionImpl{NArgs: 3, Scalar: func(_ lib.Context, args []lib.Value) (lib.Value, error) {
				return lib.IntegerValue(f(args)), nil
			}})
		}
	}
	return err
}
