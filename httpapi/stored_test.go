package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/auth"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/httptry"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// An errand is what the check of a stepwise command answers, in words.
type errand struct {
	Says string `json:"says"`
}

var errLazy = deed.Reason{Code: "lazy", Text: "not today"}

// errands have a check that answers whatever it is told to.
func errands() deed.Domain {
	check := func(ctx context.Context, r deed.Reader, id string, c errand) ([]deed.Finding, error) {
		switch c.Says {
		case "not found":
			_, _, err := deed.Aggregate[jar]{Name: "jar"}.Load(ctx, r, "nowhere")
			return nil, fmt.Errorf("the jar: %w", err)
		case "exists":
			return nil, deed.ErrExists
		case "reason":
			return nil, errLazy
		case "invalid":
			return nil, errors.Join(deed.Invalid{Field: "says", Detail: "is odd"}, deed.Invalid{Detail: "it is late"})
		case "id":
			return []deed.Finding{{Field: "id", Text: "it is " + id, Fatal: true}}, nil
		case "much":
			found := make([]deed.Finding, 40_000)
			for i := range found {
				found[i] = deed.Finding{Field: fmt.Sprint("says.", i), Text: "is odd"}
			}
			found[39_000].Fatal = true
			return found, nil
		}
		return nil, nil
	}
	step := deed.Step[errand]{Name: "run", Do: func(_ context.Context, _ *deed.Work, c errand) error {
		if c.Says == "step: not found" {
			return deed.ErrNotFound
		}
		return nil
	}}
	return deed.Domain{Name: "errands", Parts: append(jars().Parts, deed.Stepwise[errand]{
		Name: "errand.run", Check: check, Steps: []deed.Step[errand]{step}, Rules: deed.Rules{Retry: deed.Retry{Attempts: 1}},
	})}
}

// What comes of a stored command is answered as if it had been handled at once,
// whether a step says so or the check.
func TestAnswersOfStoredCommands(t *testing.T) {
	base := deedtest.Serve(t, mem.New(), errands())
	for _, c := range []struct {
		says, state, want string
	}{
		{"", "completed", "200 <nil> <nil> <nil>"},
		{"not found", "rejected", "404 not_found the jar: not found: jar/nowhere <nil>"},
		{"step: not found", "rejected", "404 not_found not found <nil>"},
		{"exists", "rejected", "409 conflict already exists <nil>"},
		{"reason", "rejected", "422 rejected not today lazy"},
		{"invalid", "invalid", "400 invalid says: is odd; it is late <nil>"},
		{"id", "invalid", "400 invalid id: it is e-1 <nil>"},
	} {
		id := url.PathEscape("k-" + c.says)
		a := httptry.Ask(t, "POST", base+"/v1/errand/e-1/run", `{"says":"`+c.says+`"}`, "Prefer", "wait=20", "Idempotency-Key", "k-"+c.says)
		httptry.Want(t, c.says, fmt.Sprintln(a.Status, a.Get("code"), a.Get("detail"), a.Get("reason")), c.want+"\n")
		s := httptry.Ask(t, "GET", base+"/v1/commands/"+id, "")
		httptry.Want(t, c.says+": state", s.Get("state"), c.state)
	}
}

// However much is found, what is recorded and shown has bounds.
func TestManyFindings(t *testing.T) {
	s := mem.New()
	base := deedtest.Serve(t, s, errands())
	a := httptry.Ask(t, "POST", base+"/v1/errand/run", `{"says":"much"}`, "Prefer", "wait=20", "Idempotency-Key", "k")
	detail, _ := a.Get("detail").(string)
	httptry.Want(t, "status", a.Status, 400)
	httptry.Want(t, "the fatal one comes first, and the others are counted",
		[]any{strings.HasPrefix(detail, "says.39000: is odd; says.0: is odd"), strings.HasSuffix(detail, "and 39980 more: the first hundred are in the command's status")}, []any{true, true})
	status := httptry.Ask(t, "GET", base+"/v1/commands/k", "")
	found, _ := status.Get("findings").([]any)
	httptry.Want(t, "findings", []any{len(found), status.Get("finding_count")}, []any{100, 40_000})
	stored := 0
	for rec, err := range s.Read(t.Context(), "$command/k", store.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		stored += len(rec.Data)
	}
	if stored > 20_000 {
		t.Errorf("%d bytes are stored", stored)
	}
}

// A list is asked for by what there is, and typing errors are told.
func TestListOfCommandsKnowsItsFilters(t *testing.T) {
	base := deedtest.Serve(t, mem.New(), jars())
	for query, want := range map[string]string{
		"state=bogus":         `state is "bogus": use one of received, running, retrying, invalid, failed, undoing, completed, rejected, cancelled`,
		"state=Failed":        "use one of received",
		"actor=a&stat=failed": "stat is not a parameter of this route, which has state, command, actor, sort, limit, after",
		"where=stat=failed":   "stat",
	} {
		a := httptry.Ask(t, "GET", base+"/v1/commands?"+query, "")
		if detail, _ := a.Get("detail").(string); a.Status != 400 || a.Get("code") != "invalid" || !strings.Contains(detail, want) {
			t.Errorf("%s: %d %v, want %s", query, a.Status, a.Body, want)
		}
	}
	a := httptry.Ask(t, "GET", base+"/v1/commands?state=failed&command=jar.shake&actor=ann", "")
	httptry.Want(t, "nothing", fmt.Sprint(a.Status, a.Body), "200 map[commands:[]]")
}

// A list of nothing is [], for programs that go through it.
func TestNoListIsNull(t *testing.T) {
	s := mem.New()
	rt := deedtest.StartOn(t, s, deed.Domain{Name: "d", Parts: []deed.Part{deed.Aggregate[jar]{Name: "jar"}}})
	srv := httptest.NewServer(httpapi.New(rt, httpapi.Options{Keys: auth.NewKeys(s), Logger: slog.New(slog.DiscardHandler)}))
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	for path, lists := range map[string][]string{
		"/v1": {"aggregates", "stepwise", "views", "followers"}, "/v1/commands": {"commands"}, "/v1/events": {"events"}, "/v1/nodes": {"nodes"},
		"/v1/followers": {"followers"}, "/v1/dead-letters": {"dead_letters"}, "/v1/keys": {"keys"}, "/v1/views/commands": {"documents"},
	} {
		a := httptry.Ask(t, "GET", srv.URL+path, "")
		for _, name := range lists {
			if _, ok := a.Get(name).([]any); !ok {
				t.Errorf("%s: %s is %v", path, name, a.Get(name))
			}
		}
		nulls(t, path, a.Body)
	}
}

// nulls complains of what is null in an answer.
func nulls(t *testing.T, at string, v any) {
	t.Helper()
	switch v := v.(type) {
	case nil:
		t.Errorf("%s is null", at)
	case map[string]any:
		for name, member := range v {
			nulls(t, at+" "+name, member)
		}
	case []any:
		for i, entry := range v {
			nulls(t, fmt.Sprintf("%s %d", at, i), entry)
		}
	}
}
