package deed

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// What is going to be given up is announced in streams "$compaction/<run>-<n>",
// which are given up themselves by a later run. Views drop the documents when
// they read it, in the same commit as their cursor.
const (
	compactionCategory = "$compaction"
	typeGivenUp        = "given-up"
)

// givenUp announces that streams are given up; it names those of which views
// may have documents.
type givenUp struct {
	Commands []string `json:"commands,omitempty"` // their ids
	Poison   []string `json:"poison,omitempty"`
	Runs     []string `json:"runs,omitempty"` // of queries
}

func (g givenUp) commands() []string { return g.Commands }
func (g givenUp) poison() []string   { return g.Poison }
func (g givenUp) runs() []string     { return g.Runs }

// forgets drops the documents of streams that are given up.
func forgets[V any](keys func(givenUp) []string) Handler[V] {
	h := Drop[V](givenUp{})
	h.handler.keys = func(e any) []string { return keys(e.(givenUp)) }
	return h
}

func declareGivenUp(c *wire.Codec) error {
	return c.Declare(wire.Name{Category: compactionCategory, Type: typeGivenUp}, givenUp{})
}

// announcements is the stream of a run's announcements to a partition of the
// view of commands. Its name belongs to the partition.
func (rt *Runtime) announcements(run uint64, part int) string {
	for i := 0; ; i++ {
		stream := fmt.Sprintf("%s/%d-%d", compactionCategory, run, i)
		if store.PartitionOf(stream, rt.commandParts) == part {
			return stream
		}
	}
}

// announce records what a batch is going to remove, as far as views have to
// know, provided that no other run has announced anything meanwhile.
func (x *compaction) announce(ctx context.Context, batch batchOfStreams) error {
	parts := make([]givenUp, x.rt.commandParts)
	for _, s := range batch.streams {
		if !s.documents {
			continue
		}
		category, id, _ := strings.Cut(s.Stream, "/")
		g := &parts[store.PartitionOf(s.Stream, x.rt.commandParts)]
		switch category {
		case poisonCategory:
			g.Poison = append(g.Poison, id)
		case queryCategory:
			g.Runs = append(g.Runs, id)
		default:
			g.Commands = append(g.Commands, id)
		}
	}
	writes := []store.Write{{Stream: auditCompaction, Expect: store.Exactly(x.runs)}}
	for part, g := range parts {
		if len(g.Commands)+len(g.Poison)+len(g.Runs) == 0 {
			continue
		}
		data, err := wire.Marshal(g)
		if err != nil {
			return err
		}
		circumstances, err := x.meta()
		if err != nil {
			return err
		}
		writes = append(writes, store.Write{
			Stream: x.rt.announcements(x.runs, part), Expect: store.Exactly(x.said[part]),
			Events: []store.Event{{ID: newEventID(), Type: typeGivenUp, Data: data, Meta: circumstances}},
		})
		x.said[part]++
	}
	if len(writes) == 1 {
		return nil
	}
	_, err := x.rt.append(ctx, slices.Clip(writes)...)
	if isConflict(err) {
		return ErrCompacting
	}
	if err != nil {
		return fmt.Errorf("deed: announcing what is given up: %w", err)
	}
	return nil
}
