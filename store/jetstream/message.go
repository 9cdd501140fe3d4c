package jetstream

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/deed-dev/deed/store"
)

// Headers of our messages. They are part of the stored format.
const (
	headRecord = "Deed-Record" // version, previous, time, id, length of data, checksum
	headType   = "Deed-Type"   // as a token, because NATS trims headers
	headDoc    = "Deed-Doc"    // revision, checksum; revision 0 = deleted
	headBatch  = "Deed-Batch"  // which attempt wrote this
)

// Headers of JetStream.
const (
	headLast        = "Nats-Expected-Last-Sequence"
	headSubjectLast = "Nats-Expected-Last-Subject-Sequence"
	headSubject     = "Nats-Expected-Last-Subject-Sequence-Subject"
	headBatchID     = "Nats-Batch-Id"
	headBatchSeq    = "Nats-Batch-Sequence"
	headBatchCommit = "Nats-Batch-Commit"
	headTTL         = "Nats-TTL"
)

// A message is what JetStream has at a sequence.
type message struct {
	subject string
	seq     uint64
	header  nats.Header
	data    []byte
}

// A place is where a record is, and where the one before it in its stream is:
// the first thing that is read of a stream is its end.
type place struct {
	store.Record
	prev uint64
}

// encode makes the message of a record.
func (s *Store) encode(p *place) *nats.Msg {
	m := nats.NewMsg(s.subjects.stream(p.Stream))
	m.Header[headRecord] = []string{fmt.Sprintf("%d %d %d %s %d %08x",
		p.Version, p.prev, p.Time.UnixMicro(), hex.EncodeToString(p.ID[:]), len(p.Data), recordSum(&p.Record, p.prev))}
	m.Header[headType] = []string{token(p.Type)}
	m.Data = append(append(make([]byte, 0, len(p.Data)+len(p.Meta)), p.Data...), p.Meta...)
	return m
}

// decode reads a record and verifies its checksum.
func (s *Store) decode(stream string, m *message) (place, error) {
	p := place{Record: store.Record{Stream: stream, Position: store.Position{Seq: m.seq}}}
	var micros int64
	var length int
	var sum uint32
	var id string
	n, err := fmt.Sscanf(m.header.Get(headRecord), "%d %d %d %s %d %x", &p.Version, &p.prev, &micros, &id, &length, &sum)
	if err != nil || n != 6 || len(id) != 2*len(p.ID) || length < 0 || length > len(m.data) {
		return p, s.corrupt(stream, m.seq, "cannot be read")
	}
	if _, err := hex.Decode(p.ID[:], []byte(id)); err != nil {
		return p, s.corrupt(stream, m.seq, "cannot be read")
	}
	if p.Type, err = part(m.header.Get(headType)); err != nil {
		return p, s.corrupt(stream, m.seq, "cannot be read")
	}
	p.Time = time.UnixMicro(micros).UTC()
	p.Data, p.Meta = m.data[:length:length], m.data[length:]
	if recordSum(&p.Record, p.prev) != sum {
		return p, s.corrupt(fmt.Sprintf("%s@%d", stream, p.Version), m.seq, "fails its checksum")
	}
	return p, nil
}

func (s *Store) corrupt(what string, seq uint64, how string) error {
	return fmt.Errorf("%w: jetstream: %s: event %s at position %d %s: compare the replicas, restore a backup",
		store.ErrCorrupt, s.subjects.log(), what, seq, how)
}

// A revision is what a document's last message says: revision 0 is a deleted
// document, sequence 0 one that never was, or was deleted long ago.
type revision struct{ rev, seq uint64 }

// encodeDoc makes the message of a change.
func (s *Store) encodeDoc(c store.Change, rev uint64) *nats.Msg {
	m := nats.NewMsg(s.subjects.doc(c.Coll, c.Key))
	if c.Data == nil {
		rev = 0
		m.Header[headTTL] = []string{tombTTL}
	}
	m.Header[headDoc] = []string{fmt.Sprintf("%d %08x", rev, docSum(c.Coll, c.Key, rev, c.Data))}
	m.Data = c.Data
	return m
}

// decodeDoc reads a document and verifies its checksum.
func (s *Store) decodeDoc(coll, key string, m *message) (store.Doc, error) {
	d := store.Doc{Key: key, Data: m.data}
	var sum uint32
	n, err := fmt.Sscanf(m.header.Get(headDoc), "%d %x", &d.Rev, &sum)
	if err != nil || n != 2 || docSum(coll, key, d.Rev, d.Data) != sum {
		return d, fmt.Errorf("%w: jetstream: %s: document %s/%s fails its checksum: compare the replicas, restore a backup",
			store.ErrCorrupt, s.subjects.docs(), coll, key)
	}
	if d.Data == nil {
		d.Data = []byte{}
	}
	return d, nil
}

// quote makes text of an error fit on one line.
func quote(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
