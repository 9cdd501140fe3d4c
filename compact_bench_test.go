package deed_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/sqlite"
)

var (
	compactMany    = flag.Int("compactmany", 100_000, "commands that BenchmarkCompaction gives up")
	compactClients = flag.Int("compactclients", 16, "clients that ask commands meanwhile")
)

// BenchmarkCompaction gives up commands of a file while others ask commands, and
// says what that costs them: go test -run '^$' -bench Compaction -benchtime 1x .
func BenchmarkCompaction(b *testing.B) {
	for b.Loop() {
		path := filepath.Join(b.TempDir(), "deed.db")
		oldCommands(b, path, *compactMany)
		s, err := sqlite.Open(path, nil)
		if err != nil {
			b.Fatal(err)
		}
		rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{{Name: "d", Parts: []deed.Part{vaults}}}, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		running, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- rt.Run(running) }()
		head, _ := s.Head(b.Context())
		if err := rt.WaitFor(b.Context(), deed.Receipt{Position: string(head)}); err != nil {
			b.Fatal(err)
		}
		var done atomic.Int64
		var clients sync.WaitGroup
		busy, rest := context.WithCancel(b.Context())
		for c := range *compactClients {
			clients.Go(func() {
				for busy.Err() == nil {
					if _, err := vaults.Execute(busy, rt, fmt.Sprint("v", c), drop{1}); err == nil {
						done.Add(1)
					}
				}
			})
		}
		count := func(f func()) (n, seconds float64) {
			from, before := time.Now(), done.Load()
			f()
			return float64(done.Load() - before), time.Since(from).Seconds()
		}
		// Turn by turn: a second without, a second with it. What else the machine
		// does is the same for both.
		time.Sleep(2 * time.Second)
		var out deed.Compacted
		var records uint64
		var without, with, pauses, seconds float64
		for !out.Done {
			n, t := count(func() { time.Sleep(time.Second) })
			without, pauses = without+n, pauses+t
			n, t = count(func() {
				ctx, enough := context.WithTimeout(b.Context(), time.Second)
				defer enough()
				out, err = rt.Compact(ctx, deed.Compaction{OlderThan: 24 * time.Hour})
			})
			with, seconds = with+n, seconds+t
			if records += out.Records; err != nil || out.WaitsFor != "" {
				b.Fatalf("%+v, %v", out, err)
			}
		}
		without, with = without/pauses, with/seconds
		rest()
		clients.Wait()
		stop()
		if err := errors.Join(<-ended, s.Close()); err != nil {
			b.Fatal(err)
		}
		copied := path + ".copy"
		if err := sqlite.Backup(b.Context(), path, copied, nil); err != nil {
			b.Fatal(err)
		}
		r, err := sqlite.Check(b.Context(), path, nil)
		if err != nil || len(r.Problems) > 0 {
			b.Fatal(r.Problems, err)
		}
		b.Logf("%d records in %.1f s; commands a second: %.0f without it, %.0f meanwhile (%.0f %%)", records, seconds, without, with, 100*with/without)
		b.Logf("the file: %.1f MiB, with %d commands asked since; its backup: %.1f MiB", mebibytes(b, path), done.Load(), mebibytes(b, copied))
		b.ReportMetric(with/without, "rate")
		b.ReportMetric(float64(records)/seconds, "records/s")
	}
}

func mebibytes(b *testing.B, path string) float64 {
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	return float64(info.Size()) / (1 << 20)
}

// oldCommands writes a file with commands of last year, each with an event of an
// entity; every fifth was stored first.
func oldCommands(b *testing.B, path string, many int) {
	b.Helper()
	s, err := sqlite.Open(path, &sqlite.Options{Relaxed: true})
	if err != nil {
		b.Fatal(err)
	}
	at := time.Now().Add(-365 * 24 * time.Hour).Truncate(time.Microsecond)
	var recs []store.Record
	n := 0
	record := func(stream string, version uint64, typ, data string, id string) {
		n++
		r := store.Record{Stream: stream, Version: version, Type: typ, Data: []byte(data), Time: at,
			Meta: fmt.Appendf(nil, `{"actor":"ann","command":"%s","correlation":"%s","source":"http"}`, id, id)}
		copy(r.ID[:], fmt.Sprintf("%016d", n))
		recs = append(recs, r)
	}
	for i := range many {
		id := fmt.Sprintf("0198c1d2-%04x-7%03x-8000-%012x", i>>12, i&0xfff, i)
		vault, version := fmt.Sprintf("vault/old-%d", i/10), uint64(i%10+1)
		outcome := fmt.Sprintf(`{"command":"vault.drop","stream":"%s","hash":"47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU","version":%d,"events":[{"type":"paid","version":%d}]}`, vault, version, version)
		if i%5 == 0 {
			record("$command/"+id, 1, "received", fmt.Sprintf(`{"command":"vault.drop","stream":"%s","hash":"47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU","body":{"N":1}}`, vault), id)
			record(vault, version, "paid", `{"N":1}`, id)
			record("$command/"+id, 2, "completed", outcome, id)
		} else {
			record(vault, version, "paid", `{"N":1}`, id)
			record("$command/"+id, 1, "accepted", outcome, id)
		}
		if len(recs) >= 3000 || i == many-1 {
			if err := s.Import(b.Context(), recs); err != nil {
				b.Fatal(err)
			}
			recs = recs[:0]
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	b.Logf("the file at first: %.1f MiB, %d commands", mebibytes(b, path), many)
}
