package deed

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/deed-dev/deed/store"
)

// open returns the streams of tasks that seem to be open.
func (s *simStage) open() (streams []string) {
	for rec, err := range s.store.ReadAll(context.Background(), store.Start, store.Filter{Categories: []string{taskCategory}}) {
		if err != nil {
			s.Fatal(err)
		}
		switch rec.Type {
		case "opened":
			streams = append(streams, rec.Stream)
		case "decided", "closed":
			streams = slices.DeleteFunc(streams, func(o string) bool { return o == rec.Stream })
		}
	}
	return streams
}

// deliver gives instances events again that are in the log, those of different
// streams in any order: as a node does that does not know yet that others have
// its partition.
func (s *simStage) deliver(n *simNode) {
	rt := n.running()
	if rt == nil {
		return
	}
	byStream := map[string][]store.Record{}
	var streams []string
	for rec, err := range s.store.ReadAll(context.Background(), store.Start, store.Filter{Categories: []string{"order", "purse"}}) {
		if err != nil {
			s.Fatal(err)
		}
		if byStream[rec.Stream] == nil {
			streams = append(streams, rec.Stream)
		}
		byStream[rec.Stream] = append(byStream[rec.Stream], rec)
	}
	s.rand.Shuffle(len(streams), func(i, j int) { streams[i], streams[j] = streams[j], streams[i] })
	for _, f := range rt.followers {
		if f.Kind != "process" && f.Kind != "saga" {
			continue
		}
		for _, stream := range streams {
			s.clients.Go(func() {
				for _, rec := range byStream[stream] {
					one := f.New(1)
					if one.Handle(context.Background(), nil, rec) != nil || one.Flush(context.Background(), nil) != nil {
						return // the later ones of the stream must not come before it
					}
				}
			})
		}
	}
}

// end ends all trouble, repairs what has to be repaired, and waits until
// everything is over.
func (s *simStage) end() {
	s.settle()
	for _, n := range s.nodes {
		n.start()
	}
	for range 120 { // what is not over by then is found below
		s.pass(5 * time.Second)
		if s.repair() {
			break
		}
	}
	s.clients.Wait()
	rt := s.nodes[0].rt
	for _, n := range s.nodes {
		n.stop(false)
	}
	s.gone.Wait()
	l := readSimLog(s.T, rt, s.wrongly)
	things := simThings{}
	for name, t := range s.out.things {
		things.note(name, t.done)
	}
	l.check(things)
	s.totals.states = map[InstanceState]int{}
	for _, story := range l.instances {
		s.totals.states[story.inst.State]++
	}
}

// repair does what an operator does, and reports whether all is over.
func (s *simStage) repair() bool {
	rt, ctx := s.nodes[0].rt, context.Background()
	over := true
	for _, kind := range []string{"process", "saga"} {
		for rec, err := range s.store.ReadAll(ctx, store.Start, store.Filter{Categories: []string{"$" + kind}}) {
			if err != nil {
				s.Fatal(err)
			}
			if rec.Version > 1 {
				continue
			}
			name, id := splitInstance(strings.TrimPrefix(rec.Stream, "$"+kind+"/"))
			i, err := rt.Instances().Get(ctx, kind, name, id)
			if err != nil {
				s.wrongly("%s: %v", rec.Stream, err)
				continue
			}
			if over = over && i.State.Over(); i.State == InstanceStuck {
				s.fill(rt)
				if _, err := rt.Instances().Retry(ctx, kind, name, id, "repaired"); err != nil && !errors.Is(err, ErrStands) {
					s.wrongly("%s is not tried again: %v", rec.Stream, err)
				}
			}
		}
	}
	letters, _, err := rt.engine.DeadLetters(ctx, "", "", 0)
	if err != nil {
		s.Fatal(err)
	}
	for _, l := range letters {
		over = false
		if l.State == "dead" { // should it fail, because the partition changes hands, there is a next time
			_, _ = rt.engine.Redrive(ctx, l.ID)
		}
	}
	return over
}

// fill sees to it that nothing is refused for lack of coins.
func (s *simStage) fill(rt *Runtime) {
	for _, id := range []string{"x", "y", "z", "u", "v", "toll-x", "toll-y"} {
		p, _, err := purses.Load(context.Background(), rt, id)
		if err == nil && p.Coins < 100 {
			_, err = purses.Execute(context.Background(), rt, id, putIn{100})
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			s.wrongly("%s is not filled: %v", id, err)
		}
	}
}
