package deed_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deed-dev/deed"
)

func (p *tale) process(name, id string) deed.Instance {
	p.Helper()
	i, err := p.rt.Instances().Get(p.Context(), "process", name, id)
	p.ok(err)
	return i
}

func (p *tale) request(id string, c ask) {
	p.Helper()
	_, err := requests.Execute(p.Context(), p.rt, id, c)
	p.ok(err)
}

func (p *tale) noDeadLetters() {
	p.Helper()
	letters, _, err := p.rt.Followers().DeadLetters(p.Context(), "", "", 10)
	if err != nil || len(letters) > 0 {
		p.Errorf("dead letters: %+v, %v", letters, err)
	}
}

// That it is done, or has failed, is the last thing a reaction does, wherever it
// stands in the list; and nothing that was opened by the way stays open.
func TestProcessEndsLast(t *testing.T) {
	def := deed.Process[none]{Name: "short", On: []deed.ProcessReaction[none]{
		deed.Start(func(_ *none, e requested) []deed.Action {
			end := deed.Done()
			if e.N > 1 {
				end = deed.Fail(deed.Reason{Code: "many", Text: "too many"})
			}
			return []deed.Action{
				end, deed.After("soon", time.Hour), deed.Ask("well", deed.Question{Text: "well?"}), deed.Ask("well", deed.Question{Text: "really?"}),
				dropInto(e.To, e.N).Undo(takeFrom(e.To, e.N)),
			}
		}),
	}}
	tell(t, func(p *tale) {
		p.request("done", ask{To: "a", N: 1})
		p.request("failed", ask{To: "b", N: 2})
		time.Sleep(time.Minute)
		p.expect(story(p.process("short", "done")), "completed")
		p.expect(story(p.process("short", "failed")), "undone many")
		p.expectCoins("a 1, b 0")
		time.Sleep(2 * time.Hour)
		for _, id := range []string{"done", "failed"} {
			i := p.process("short", id)
			if n := p.count("$process/short/"+id, ""); n != 1 || len(i.Timers)+len(i.Tasks) > 0 || i.Ignored > 0 {
				p.Errorf("%s has %d records: %+v", id, n, i)
			}
		}
		p.noDeadLetters()
	}, vaults, requests, def)
}

// A process that is refused whatever it does about a refusal fails at last.
func TestProcessIsRefusedForEver(t *testing.T) {
	def := deed.Process[none]{Name: "stubborn", On: []deed.ProcessReaction[none]{
		deed.Start(func(*none, requested) []deed.Action { return []deed.Action{takeFrom("a", 1)} }),
		deed.OnRefused(func(*none, deed.Rejected) []deed.Action { return []deed.Action{takeFrom("a", 1)} }),
	}}
	tell(t, func(p *tale) {
		p.request("r", ask{})
		time.Sleep(time.Minute)
		p.expect(story(p.process("stubborn", "r")), "undone too_few")
		p.noDeadLetters()
	}, vaults, requests, def)
}

// What comes after the end can be answered with commands, and with nothing else:
// how it ended does not change, even if they are refused.
func TestLateReactions(t *testing.T) {
	var answer func() []deed.Action
	def := deed.Process[none]{Name: "over", On: []deed.ProcessReaction[none]{
		deed.Start(func(*none, requested) []deed.Action { return []deed.Action{deed.Done()} }),
		deed.React(func(*none, revoked) []deed.Action { return answer() }).Late(),
	}}
	for name, c := range map[string]struct {
		answer []deed.Action
		coins  string
		parked bool
	}{
		"a command":         {[]deed.Action{dropInto("a", 1)}, "a 1", false},
		"a refused command": {[]deed.Action{takeFrom("a", 1), dropInto("a", 1)}, "a 1", false},
		"the end again":     {[]deed.Action{deed.Fail(deed.Reason{Code: "no"}), dropInto("a", 1)}, "a 1", false},
		"a timer":           {[]deed.Action{dropInto("a", 1), deed.After("soon", time.Minute)}, "a 0", true},
		"a question":        {[]deed.Action{dropInto("a", 1), deed.Ask("well", deed.Question{Text: "well?"})}, "a 0", true},
	} {
		t.Run(name, func(t *testing.T) {
			answer = func() []deed.Action { return c.answer }
			tell(t, func(p *tale) {
				p.request("r", ask{})
				_, err := requests.Execute(p.Context(), p.rt, "r", revoke{})
				p.ok(err)
				time.Sleep(time.Minute)
				p.expect(story(p.process("over", "r")), "completed")
				p.expectCoins(c.coins)
				letters, _, err := p.rt.Followers().DeadLetters(p.Context(), "process-over", "", 10)
				p.ok(err)
				if c.parked != (len(letters) == 1 && strings.Contains(letters[0].Reason, "is over")) {
					p.Errorf("dead letters: %+v", letters)
				}
			}, vaults, requests, def)
		})
	}
}

// A saga that cannot be begun refuses the action of the process that begins it.
func TestProcessBeginsNothing(t *testing.T) {
	_, child := nested(&outside{})
	def := deed.Process[none]{Name: "leader", On: []deed.ProcessReaction[none]{
		deed.Start(func(_ *none, e requested) []deed.Action {
			return []deed.Action{child.Begin("same", errand{Child: e.To}), child.Begin("same", errand{Child: e.To})}
		}),
		deed.OnEnded("child", func(*none, deed.Instance) []deed.Action { return []deed.Action{deed.Done()} }),
	}}
	tell(t, func(p *tale) {
		for _, c := range []struct{ id, to, want string }{
			{"first", "a", "completed"}, {"second", "a", "undone exists"}, {"third", "nobody", "undone invalid"},
		} {
			p.request(c.id, ask{To: c.to})
			time.Sleep(time.Minute)
			p.expect(story(p.process("leader", c.id)), c.want)
		}
		p.noDeadLetters()
	}, vaults, requests, def, child)
}

// An event whose reaction panics is parked, and with it whatever comes after it
// for the instance, its timers included. Other instances go on. When the
// reaction is repaired, and the event redriven, all of it happens in order.
func TestPoisonParksOneInstance(t *testing.T) {
	var broken atomic.Bool
	broken.Store(true)
	def := deed.Process[moving]{Name: "frail", On: []deed.ProcessReaction[moving]{
		deed.Start(func(m *moving, e requested) []deed.Action {
			if e.N == 13 && broken.Load() {
				panic("thirteen")
			}
			*m = moving{To: e.To, N: e.N}
			return []deed.Action{deed.After("deadline", time.Hour)}
		}),
		deed.React(func(m *moving, _ revoked) []deed.Action {
			if m.N == 14 && broken.Load() {
				panic("fourteen")
			}
			return []deed.Action{dropInto(m.To, m.N), deed.Done()}
		}),
		deed.OnTimer("deadline", func(*moving) []deed.Action {
			return []deed.Action{deed.Fail(deed.Reason{Code: "deadline", Text: "it took too long"})}
		}),
	}}
	tell(t, func(p *tale) {
		for id, n := range map[string]int{"first": 13, "later": 14, "good": 1, "slow": 2} {
			p.request(id, ask{To: id, N: n})
			if id != "slow" {
				_, err := requests.Execute(p.Context(), p.rt, id, revoke{})
				p.ok(err)
			}
		}
		time.Sleep(24 * time.Hour)
		p.expect(story(p.process("frail", "good")), "completed")
		p.expect(story(p.process("frail", "slow")), "undone deadline")
		p.expect(story(p.process("frail", "later")), "running")
		if _, err := p.rt.Instances().Get(p.Context(), "process", "frail", "first"); !errors.Is(err, deed.ErrNotFound) {
			p.Errorf("the first has begun: %v", err)
		}
		states := map[string]int{}
		letters, _, err := p.rt.Followers().DeadLetters(p.Context(), "process-frail", "", 10)
		p.ok(err)
		for _, l := range letters {
			states[l.State]++
		}
		if states["dead"] != 2 || states["waiting"] != 1 || len(letters) != 3 {
			p.Errorf("dead letters: %v", states)
		}
		broken.Store(false)
		for _, l := range letters {
			if l.State == "dead" {
				_, err := p.rt.Followers().Redrive(p.Context(), l.ID)
				p.ok(err)
			}
		}
		time.Sleep(time.Minute)
		p.noDeadLetters()
		p.expect(story(p.process("frail", "first")), "completed")
		p.expect(story(p.process("frail", "later")), "completed")
		p.expectCoins("first 13, later 14, good 1, slow 0")
	}, vaults, requests, def)
}
