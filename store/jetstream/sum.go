package jetstream

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/deed-dev/deed/store"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// recordSum is the checksum of a record: the CRC-32C of stream name, 0,
// version, position, position of the stream's record before, time in
// microseconds (each 8 bytes, big-endian), id, type, 0, length of data (8
// bytes), data, meta. It is verified whenever a record is read, so that damage
// shows as an error and never as a different event: JetStream has been seen to
// lose single messages of a damaged file. The layout is part of the stored
// format.
func recordSum(r *store.Record, prev uint64) uint32 {
	b := make([]byte, 0, len(r.Stream)+len(r.Type)+64)
	b = append(append(b, r.Stream...), 0)
	b = binary.BigEndian.AppendUint64(b, r.Version)
	b = binary.BigEndian.AppendUint64(b, r.Position.Seq)
	b = binary.BigEndian.AppendUint64(b, prev)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Time.UnixMicro()))
	b = append(b, r.ID[:]...)
	b = append(append(b, r.Type...), 0)
	b = binary.BigEndian.AppendUint64(b, uint64(len(r.Data)))
	return crc(b, r.Data, r.Meta)
}

// docSum is the checksum of a document: the CRC-32C of collection, 0, key, 0,
// revision (8 bytes, big-endian), data.
func docSum(coll, key string, rev uint64, data []byte) uint32 {
	b := append([]byte(coll+"\x00"+key), 0)
	return crc(binary.BigEndian.AppendUint64(b, rev), data)
}

func crc(parts ...[]byte) (sum uint32) {
	for _, p := range parts {
		sum = crc32.Update(sum, castagnoli, p)
	}
	return sum
}
