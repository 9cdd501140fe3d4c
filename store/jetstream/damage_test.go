package jetstream_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/deed-dev/deed/store"
)

// What does not match its checksum, or is not where it should be, is an error
// that names the place.
func TestDamageIsNeverSilent(t *testing.T) {
	c := startCluster(t, t.TempDir(), 1)
	ctx := bounded(t)
	nc, err := nats.Connect(c.URL("app"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for name, change := range map[string]func(*nats.Msg){
		"data":    func(m *nats.Msg) { m.Data[0] ^= 1 },
		"type":    func(m *nats.Msg) { m.Header.Set("Deed-Type", "y") },
		"version": func(m *nats.Msg) { edit(m, 0, "2") },
		"time":    func(m *nats.Msg) { edit(m, 2, "1") },
		"id":      func(m *nats.Msg) { id := idOf(3, 3); edit(m, 3, hex.EncodeToString(id[:])) },
		"length":  func(m *nats.Msg) { edit(m, 4, "1") },
		"header":  func(m *nats.Msg) { m.Header.Del("Deed-Record") },
		"stream":  func(m *nats.Msg) { m.Subject += "0" },
		"place":   func(*nats.Msg) {}, // the same again, at another position
	} {
		s := c.open(t, name)
		out, err := s.Append(ctx, store.Write{Stream: "a/1", Expect: store.None, Events: []store.Event{{ID: idOf(0, 0), Type: "x", Data: []byte("12"), Meta: []byte("3")}}})
		if err != nil {
			t.Fatal(err)
		}
		copyOf(ctx, t, nc, name, out[0].Position.Seq, change)
		var got error
		for _, got = range s.ReadAll(ctx, out0(out), store.Filter{}) {
		}
		if !errors.Is(got, store.ErrCorrupt) || !strings.Contains(got.Error(), "position 2") {
			t.Errorf("%s: reading all: %v", name, got)
		}
	}
}

func out0(out []store.Written) store.Cursor { return store.CursorAt(out[0].Position) }

func edit(m *nats.Msg, field int, value string) {
	f := strings.Fields(m.Header.Get("Deed-Record"))
	f[field] = value
	m.Header.Set("Deed-Record", strings.Join(f, " "))
}

// copyOf stores a message once more, changed.
func copyOf(ctx context.Context, t *testing.T, nc *nats.Conn, name string, seq uint64, change func(*nats.Msg)) {
	t.Helper()
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(ctx, name+"-log")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := stream.GetMsg(ctx, seq)
	if err != nil {
		t.Fatal(err)
	}
	m := &nats.Msg{Subject: raw.Subject, Header: nats.Header{}, Data: raw.Data}
	for _, h := range []string{"Deed-Record", "Deed-Type"} {
		m.Header.Set(h, raw.Header.Get(h))
	}
	change(m)
	if _, err := js.PublishMsg(ctx, m); err != nil {
		t.Fatal(err)
	}
}

// JetStream drops a message whose bytes on the disk are wrong, and says
// nothing. What one replica has lost is read from another; what all have lost
// is an error that names the place.
func TestWrongBits(t *testing.T) {
	for _, nodes := range []int{1, 3} {
		if nodes > 1 && testing.Short() {
			continue
		}
		c := startCluster(t, t.TempDir(), nodes)
		s, ctx := c.open(t, "bits"), bounded(t)
		for i := range uint64(6) {
			e := store.Event{ID: idOf(0, i), Type: "x", Data: fmt.Appendf(nil, "event number %d", i+1)}
			if _, err := s.Append(ctx, store.Write{Stream: "a/1", Expect: store.Exactly(i), Events: []store.Event{e}}); err != nil {
				t.Fatal(err)
			}
		}
		if nodes > 1 {
			c.WaitCurrent(t, "bits-log")
		}
		c.StopNode(0)
		flip(t, c.Folder(0), "event number 3")
		c.StartNode(t, 0)
		if nodes > 1 {
			c.WaitCurrent(t, "bits-log")
		}
		for name, read := range map[string]iter.Seq2[store.Record, error]{
			"all": s.ReadAll(ctx, store.Start, store.Filter{}), "stream": s.Read(ctx, "a/1", store.Range{}),
			"backward": s.Read(ctx, "a/1", store.Range{Backward: true}), "first": s.Read(ctx, "a/1", store.Range{Limit: 4}),
		} {
			for range 3 * nodes {
				recs, err := gather(read)
				switch {
				case nodes == 1 && (!errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "position 3")):
					t.Fatalf("%s: the only replica has lost a message: %d records, %v", name, len(recs), err)
				case nodes > 1 && (err != nil || len(recs) < 4):
					t.Fatalf("%s: one of three replicas has lost a message: %d records, %v", name, len(recs), err)
				}
			}
		}
	}
}

// flip changes one bit of a text wherever it is in the files of a stream.
func flip(t *testing.T, dir, text string) {
	t.Helper()
	found := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(path, "bits-log") {
			return err
		}
		b, err := os.ReadFile(path)
		if i := bytes.Index(b, []byte(text)); i >= 0 {
			b[i] ^= 1
			found++
			return os.WriteFile(path, b, 0o600)
		}
		return err
	})
	if err != nil || found == 0 {
		t.Fatalf("found %q %d times: %v", text, found, err)
	}
}

func gather(seq iter.Seq2[store.Record, error]) (recs []store.Record, err error) {
	for r, err := range seq {
		if err != nil {
			return recs, err
		}
		recs = append(recs, r)
	}
	return recs, nil
}
