package store

import (
	"encoding/binary"
	"hash/crc32"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A Summer computes the checksums that backends keep beside records and
// verify whenever they read one, so that damage shows as [ErrCorrupt] and
// never as a different event. The zero Summer is ready; it is not for several
// goroutines at once.
type Summer struct{ buf []byte }

// Sum returns the CRC-32C of stream name, 0, version, position's sequence, time
// in microseconds since 1970 (each 8 bytes, big-endian), id, type, 0, length of
// data (8 bytes), data, meta. The layout is part of the stored format.
func (s *Summer) Sum(r *Record) uint32 {
	b := append(s.buf[:0], r.Stream...)
	b = append(b, 0)
	b = binary.BigEndian.AppendUint64(b, r.Version)
	b = binary.BigEndian.AppendUint64(b, r.Position.Seq)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Time.UnixMicro()))
	b = append(b, r.ID[:]...)
	b = append(b, r.Type...)
	b = append(b, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(len(r.Data)))
	s.buf = b
	crc := crc32.Update(0, castagnoli, b)
	crc = crc32.Update(crc, castagnoli, r.Data)
	return crc32.Update(crc, castagnoli, r.Meta)
}
