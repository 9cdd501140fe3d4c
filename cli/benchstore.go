package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/deed-dev/deed/internal/bench"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/postgres"
	"github.com/deed-dev/deed/store/split"
)

// rawSize is how many bytes of data an event has that is measured.
const rawSize = 400

// benchStore measures a store on a server, in an installation of its own.
func (a *app) benchStore(ctx context.Context, o bench.Options) (r bench.Report, err error) {
	p, err := a.place()
	if err != nil {
		return r, err
	}
	in, err := p.Fresh(ctx)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, in.Drop(context.WithoutCancel(ctx))) }()
	s, err := in.Open(ctx, nil)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if a.views != "" {
		docs, err := openStore(ctx, a.views, false)
		if err != nil {
			return r, err
		}
		defer func() { err = errors.Join(err, docs.Close()) }()
		s = split.New(s, docs)
	}
	server := bench.Server{Store: s}
	var done func()
	switch at := in.(type) {
	case schema:
		done, err = rawPostgres(ctx, at, &server)
	case streams:
		done, err = rawJetStream(ctx, at, &server)
	default:
		return r, usageError{errors.New("bench --store measures postgres://... and nats://...; SQLite is measured without --store")}
	}
	if err != nil {
		return r, err
	}
	defer done()
	if store.IsShared(s) {
		server.Node = func(ctx context.Context, name string) (func() error, error) {
			return a.benchNode(ctx, dsnOf(a.store, in), name)
		}
	}
	return bench.RunServer(ctx, server, o)
}

// rawPostgres inserts rows as wide as events into a table beside them.
func rawPostgres(ctx context.Context, at schema, s *bench.Server) (func(), error) {
	cfg, err := pgx.ParseConfig(postgres.WithoutSchema(at.dsn))
	if err != nil {
		return nil, err
	}
	c, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	_, err = c.Exec(ctx, "CREATE TABLE "+at.name+`.raw (pos bigint PRIMARY KEY, stream bigint, version bigint, kind bigint, id bytea, time bigint,
		data bytea, meta bytea, sum bigint, UNIQUE (stream, version))`)
	next := int64(0)
	s.What, s.Single, s.Rebuild = "INSERT", 5, 40e3
	s.Raw = func(ctx context.Context, n int) error {
		pos, ids, datas := make([]int64, n), make([][]byte, n), make([][]byte, n)
		for i := range n {
			next++
			pos[i], ids[i], datas[i] = next, make([]byte, 16), make([]byte, rawSize)
			rand.Read(ids[i]) // never fails
		}
		_, err := c.Exec(ctx, "INSERT INTO "+at.name+".raw SELECT p, p, 1, 1, i, 1, d, '', 1 FROM unnest($1::bigint[], $2::bytea[], $3::bytea[]) u (p, i, d)", pos, ids, datas)
		return err
	}
	return func() { c.Close(context.WithoutCancel(ctx)) }, err
}

// rawJetStream publishes messages as large as events to a stream beside theirs.
func rawJetStream(ctx context.Context, at streams, s *bench.Server) (func(), error) {
	nc, err := nats.Connect(at.servers, at.Connect...)
	if err != nil {
		return nil, err
	}
	m, err := js.New(nc)
	if err != nil {
		return nil, err
	}
	name := at.Name + "-raw"
	_, err = m.CreateStream(ctx, js.StreamConfig{Name: name, Subjects: []string{name + ".>"}, Replicas: max(at.Replicas, 1), AllowAtomicPublish: true})
	s.What = "atomic batch"
	s.Raw = func(ctx context.Context, n int) error { return publishBatch(nc, name, n) }
	return func() {
		m.DeleteStream(context.WithoutCancel(ctx), name) // a raw stream is left behind at worst
		nc.Close()
	}, err
}

func publishBatch(nc *nats.Conn, name string, n int) error {
	id := nuid.Next()
	for i := range n {
		m := nats.NewMsg(name + "." + id + strconv.Itoa(i))
		m.Data = make([]byte, rawSize)
		if n > 1 {
			m.Header.Set("Nats-Batch-Id", id)
			m.Header.Set("Nats-Batch-Sequence", strconv.Itoa(i+1))
		}
		if i < n-1 {
			if err := nc.PublishMsg(m); err != nil {
				return err
			}
			continue
		}
		if n > 1 {
			m.Header.Set("Nats-Batch-Commit", "1")
		}
		answer, err := nc.RequestMsg(m, 10*nats.DefaultTimeout)
		if err != nil {
			return err
		}
		if strings.Contains(string(answer.Data), `"error"`) {
			return fmt.Errorf("%s", answer.Data)
		}
	}
	return nil
}
