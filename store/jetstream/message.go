package jetstream

import (
	"encoding/hex"
	"fmt"
	"strconv"
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
	f := fields{text: m.header.Get(headRecord)}
	p.Version, p.prev = f.number(10), f.number(10)
	p.Time = time.UnixMicro(int64(f.number(10))).UTC()
	f.hex(p.ID[:])
	length, sum := f.number(10), f.number(16)
	typ, err := part(m.header.Get(headType))
	if f.bad || err != nil || length > uint64(len(m.data)) {
		return p, s.corrupt(stream, m.seq, "cannot be read")
	}
	p.Type, p.Data, p.Meta = typ, m.data[:length:length], m.data[length:]
	if uint64(recordSum(&p.Record, p.prev)) != sum {
		return p, s.corrupt(fmt.Sprintf("%s@%d", stream, p.Version), m.seq, "fails its checksum")
	}
	return p, nil
}

// fields are the words of a header, read one after the other.
type fields struct {
	text string
	bad  bool // one of them was not what it should be
}

func (f *fields) next() (word string) {
	word, f.text, _ = strings.Cut(f.text, " ")
	return word
}

func (f *fields) number(base int) uint64 {
	n, err := strconv.ParseUint(f.next(), base, 64)
	f.bad = f.bad || err != nil
	return n
}

func (f *fields) hex(to []byte) {
	word := f.next()
	if len(word) != 2*len(to) {
		f.bad = true
		return
	}
	_, err := hex.Decode(to, []byte(word))
	f.bad = f.bad || err != nil
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
	f := fields{text: m.header.Get(headDoc)}
	var sum uint64
	d.Rev, sum = f.number(10), f.number(16)
	if f.bad || uint64(docSum(coll, key, d.Rev, d.Data)) != sum {
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
