package sqlite

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/deed-dev/deed/store"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A summer computes the checksum of events: the CRC-32C of stream name, 0,
// version, position, time in microseconds (each 8 bytes, big-endian), id,
// type, 0, length of data (8 bytes), data, meta. It is verified whenever an
// event is read, so that a damaged file shows as an error and never as a
// different event. The layout is part of the stored format.
type summer struct{ buf []byte }

func (s *summer) sum(stream string, version, pos uint64, micros int64, id store.ID, typ string, data, meta []byte) uint32 {
	b := append(s.buf[:0], stream...)
	b = append(b, 0)
	b = binary.BigEndian.AppendUint64(b, version)
	b = binary.BigEndian.AppendUint64(b, pos)
	b = binary.BigEndian.AppendUint64(b, uint64(micros))
	b = append(b, id[:]...)
	b = append(b, typ...)
	b = append(b, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(len(data)))
	s.buf = b
	crc := crc32.Update(0, castagnoli, b)
	crc = crc32.Update(crc, castagnoli, data)
	return crc32.Update(crc, castagnoli, meta)
}
