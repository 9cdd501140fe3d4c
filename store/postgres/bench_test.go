package postgres_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/deed-dev/deed/store"
)

// The figures of the store mean something only beside those of the server
// below it, taken in the same minute: bare inserts of as many rows, in
// transactions of as many as the store has together on average, and one
// transaction per append.
//
//	go test -run '^$' -bench . -benchtime 2s ./store/postgres

var (
	benchData = []byte(`{"text":"` + strings.Repeat("x", 259) + `"}`)
	benchMeta = []byte(`{"actor":"` + strings.Repeat("a", 112) + `"}`)
)

func BenchmarkAppend1(b *testing.B)  { appends(b, 1) }
func BenchmarkAppend64(b *testing.B) { appends(b, 64) }

func appends(b *testing.B, writers int) {
	s := open(b, server.DSN(server.Schema()))
	share(b, writers, func(w int) func() error {
		n, stream, version := 0, "", uint64(0)
		return func() error {
			if n%20 == 0 {
				stream, version = fmt.Sprintf("order/%d-%d", w, n), 0
			}
			n++
			e := store.Event{Type: "done", Data: benchData, Meta: benchMeta}
			rand.Read(e.ID[:])
			out, err := s.Append(context.Background(), store.Write{Stream: stream, Expect: store.Exactly(version), Events: []store.Event{e}})
			if err == nil {
				version = out[0].Version
			}
			return err
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

func share(b *testing.B, workers int, start func(worker int) func() error) {
	b.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	b.ResetTimer()
	for w := range workers {
		all.Go(func() {
			for do := start(w); next.Add(1) <= int64(b.N); {
				if err := do(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
}

func BenchmarkRawBatch32(b *testing.B) { rawInserts(b, 32) }
func BenchmarkRawSingle(b *testing.B)  { rawInserts(b, 1) }

// rawInserts inserts rows as wide as events, some in a transaction.
func rawInserts(b *testing.B, rows int) {
	ctx := context.Background()
	c, err := pgx.Connect(ctx, server.DSN(""))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close(ctx)
	if _, err := c.Exec(ctx, `DROP TABLE IF EXISTS raw; CREATE TABLE raw (pos bigint PRIMARY KEY, stream bigint, version bigint, kind bigint,
		id bytea, time bigint, data bytea, meta bytea, sum bigint, UNIQUE (stream, version))`); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for n := 0; n < b.N; n += rows {
		var batch pgx.Batch
		batch.Queue("BEGIN")
		pos, ids, datas, metas := make([]int64, rows), make([][]byte, rows), make([][]byte, rows), make([][]byte, rows)
		for i := range rows {
			pos[i], ids[i], datas[i], metas[i] = int64(n+i), make([]byte, 16), benchData, benchMeta
			rand.Read(ids[i])
		}
		batch.Queue("INSERT INTO raw SELECT p, p, 1, 1, i, 1, d, m, 1 FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::bytea[]) u (p, i, d, m)", pos, ids, datas, metas)
		batch.Queue("COMMIT")
		if err := c.SendBatch(ctx, &batch).Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
