package postgres_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/deed-dev/deed/store/storetest"
)

// The figures of the store mean something only beside those of the server
// below it, taken in the same minute: bare inserts of as many rows, in
// transactions of as many as the store has together on average, and one
// transaction per append.
//
//	go test -run '^$' -bench . -benchtime 2s ./store/postgres

func BenchmarkAppend1(b *testing.B)  { appends(b, 1) }
func BenchmarkAppend64(b *testing.B) { appends(b, 64) }

func appends(b *testing.B, writers int) {
	storetest.BenchAppends(b, open(b, server.DSN(server.Schema())), writers, 1)
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
		for i, e := range storetest.BenchEvents(rows) {
			pos[i], ids[i], datas[i], metas[i] = int64(n+i), e.ID[:], e.Data, e.Meta
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
