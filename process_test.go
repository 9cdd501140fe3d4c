package deed_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store/mem"
)

// A request for a transfer, the account of these tests being a vault.
type (
	request struct{ Open bool }

	requested struct {
		From, To string
		N        int
	}
	revoked struct{}

	ask    requested
	revoke struct{}
)

func (e requested) Apply(r *request) { r.Open = true }
func (e revoked) Apply(r *request)   { r.Open = false }

func (c ask) Decide(r request) ([]deed.Event[request], error) {
	return []deed.Event[request]{requested(c)}, nil
}

func (c revoke) Decide(r request) ([]deed.Event[request], error) {
	return []deed.Event[request]{revoked{}}, nil
}

var requests = deed.Aggregate[request]{
	Name:     "request",
	Events:   map[string]deed.Event[request]{"requested": requested{}, "revoked": revoked{}},
	Commands: map[string]deed.Command[request]{"ask": ask{}, "revoke": revoke{}},
}

// moving is the state of a process that moves coins when that is requested.
type moving struct {
	To      string `json:"to"`
	N       int    `json:"n"`
	Arrived bool   `json:"arrived"`
}

// moves takes coins at once; large amounts wait for a decision; the coins that
// were taken are what the next input is.
var moves = deed.Process[moving]{
	Name: "move",
	On: []deed.ProcessReaction[moving]{
		deed.Start(func(m *moving, e requested) []deed.Action {
			*m = moving{To: e.To, N: e.N}
			return []deed.Action{
				deed.Send(vaults, e.From, take{e.N}).Undo(deed.Send(vaults, e.From, drop{e.N})),
				deed.After("deadline", time.Hour),
			}
		}),
		deed.React(func(m *moving, e paid) []deed.Action {
			switch {
			case e.N > 0:
				m.Arrived = true
				return []deed.Action{deed.Done()}
			case m.N >= 100:
				return []deed.Action{deed.Ask("large", deed.Question{Text: "so much?"})}
			}
			return []deed.Action{deed.Send(vaults, m.To, laterDrop{m.N})}
		}),
		deed.OnDecision("large", func(m *moving, d deed.Decision) []deed.Action {
			if d.Choice == "approve" {
				return []deed.Action{deed.Send(vaults, m.To, laterDrop{m.N})}
			}
			return []deed.Action{deed.Fail(deed.Reason{Code: "not_approved", Text: d.Reason})}
		}),
		deed.React(func(m *moving, e revoked) []deed.Action {
			return []deed.Action{deed.Fail(deed.Reason{Code: "revoked", Text: "it was revoked"})}
		}),
		deed.OnTimer("deadline", func(m *moving) []deed.Action {
			return []deed.Action{deed.Fail(deed.Reason{Code: "deadline", Text: "it took too long"})}
		}),
	},
}

func TestProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mem.New()
		rt, stop := runSlowly(t, s, deed.Domain{Name: "test", Parts: []deed.Part{requests, vaults, moves}})
		defer stop()
		do := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		fill := func(vault string, n int) { _, err := vaults.Execute(t.Context(), rt, vault, drop{n}); do(err) }
		fill("a", 500)
		fill("full", 1000)
		for id, c := range map[string]ask{
			"small": {"a", "b", 10}, "much": {"a", "c", 200}, "slow": {"a", "d", 100}, "poor": {"b", "a", 5000}, "full": {"a", "full", 1}, "revoked": {"a", "e", 100},
		} {
			_, err := requests.Execute(t.Context(), rt, id, c)
			do(err)
		}
		time.Sleep(time.Minute)
		get := func(id string) deed.Instance {
			i, err := rt.Instances().Get(t.Context(), "process", "move", id)
			do(err)
			return i
		}
		_, err := rt.Tasks().Decide(t.Context(), get("much").Tasks["large"], "approve", "", nil)
		do(err)
		_, err = requests.Execute(t.Context(), rt, "revoked", revoke{})
		do(err)
		time.Sleep(30 * time.Minute)
		if i := get("slow"); i.State != deed.InstanceRunning {
			t.Errorf("slow is %s before its time", i.State)
		}
		time.Sleep(time.Hour)
		var got []string
		for _, id := range []string{"small", "much", "slow", "poor", "full", "revoked"} {
			i := get(id)
			got = append(got, strings.TrimSuffix(fmt.Sprintf("%s %s %s", id, i.State, i.Code), " "))
		}
		want := "small completed, much completed, slow undone deadline, poor undone too_few, full undone too_few, revoked undone revoked"
		if s := strings.Join(got, ", "); s != want {
			t.Errorf("got\n%s, wanted\n%s", s, want)
		}
		for vault, n := range map[string]int{"a": 290, "b": 10, "c": 200, "full": 1000} {
			if j, _, _ := vaults.Load(t.Context(), rt, vault); j.Coins != n {
				t.Errorf("%s has %d, wanted %d", vault, j.Coins, n)
			}
		}
		if _, err := requests.Execute(t.Context(), rt, "small", revoke{}); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if i := get("small"); i.Ignored == 0 || i.State != deed.InstanceCompleted {
			t.Errorf("an event after the end: %+v", i)
		}
		if _, err := rt.Instances().Get(t.Context(), "process", "move", "nobody"); !errors.Is(err, deed.ErrNotFound) {
			t.Error(err)
		}
		letters, _, err := rt.Followers().DeadLetters(t.Context(), "", "", 10)
		if err != nil || len(letters) > 0 {
			t.Errorf("%+v, %v", letters, err)
		}
	})
}
