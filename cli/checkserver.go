package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/jetstream"
	"github.com/deed-dev/deed/store/postgres"
	"github.com/deed-dev/deed/store/sqlite"
)

// checkJetStream reports on an installation of JetStream as on a file.
func (a *app) checkJetStream(ctx context.Context, p *progress) (out sqlite.Report, err error) {
	servers, o, err := natsOptions(a.store)
	if err != nil {
		return out, usageError{err}
	}
	o.MustExist = true
	opened, err := openJetStream(servers, o)
	if err != nil {
		return out, err
	}
	s := opened.(*jetstream.Store)
	defer func() { err = errors.Join(err, s.Close()) }()
	r, err := s.Check(ctx, p.at)
	if err != nil {
		return out, err
	}
	out = sqlite.Report{Path: hidden(a.store), Events: r.Events, Streams: r.Streams, Docs: r.Docs, Head: r.Head, Omitted: r.Omitted}
	return withProblems(ctx, out, s, r.Problems)
}

// checkPostgres reports on an installation in PostgreSQL as on a file.
func (a *app) checkPostgres(ctx context.Context, p *progress) (out sqlite.Report, err error) {
	s, err := postgres.Open(ctx, a.store, &postgres.Options{MustExist: true})
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	r, err := s.Check(ctx, p.at)
	if err != nil {
		return out, err
	}
	out = sqlite.Report{
		Path: hidden(a.store), Events: r.Events, Streams: r.Streams, Docs: r.Docs, Head: r.Head, GivenUp: r.GivenUp, Omitted: r.Omitted,
	}
	return withProblems(ctx, out, s, r.Problems)
}

// withProblems adds what is wrong with a store on a server.
func withProblems(ctx context.Context, r sqlite.Report, s store.Store, problems []string) (sqlite.Report, error) {
	beyond, err := readBeyond(ctx, s, r.Head)
	r.Problems = []sqlite.Problem{}
	for _, text := range append(problems, beyond...) {
		r.Problems = append(r.Problems, sqlite.Problem{Detail: text})
	}
	return r, err
}

// readBeyond finds followers that have read more than a log has: it has lost
// its end.
func readBeyond(ctx context.Context, s store.Store, head uint64) (problems []string, err error) {
	for d, err := range s.List(ctx, "$cursor", "", "") {
		if err != nil {
			return nil, err
		}
		var c struct{ Cursor store.Cursor }
		if err := json.Unmarshal(d.Data, &c); err != nil {
			problems = append(problems, fmt.Sprintf("the checkpoint %s cannot be read: %v", d.Key, err))
		} else if at := c.Cursor.Seq(0); at > head {
			problems = append(problems, fmt.Sprintf("the follower %s has read up to position %d, and the log ends at %d: its last events are lost", d.Key, at, head))
		}
	}
	return problems, nil
}
