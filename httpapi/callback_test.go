package httpapi_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/orders"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// What a request says of callbacks is stored with the command, or refused in a
// way that says why.
func TestCallbackHeader(t *testing.T) {
	allow := func(c deed.Callback) error {
		if strings.Contains(c.URL, "evil") {
			return deed.Invalid{Detail: "callbacks to evil are not allowed"}
		}
		return nil
	}
	onlySome := "callbacks to evil are not allowed"
	form := "Deed-Callback must be like"
	for i, c := range []struct {
		allowed func(deed.Callback) error
		headers []string
		status  int
		want    string // stored, or in the problem
	}{
		{allow, nil, 200, ""},
		{allow, []string{`<https://a/x>; on="error step completion"`}, 202, `[{https://a/x [error step completion]}]`},
		{allow, []string{`<https://a/x>`}, 202, `[{https://a/x [error completion]}]`},
		{allow, []string{` <https://a/x?q=1,2> ;  on="step" , <http://b:9/>`, `<https://c/>`}, 202, `[{https://a/x?q=1,2 [step]} {http://b:9/ [error completion]} {https://c/ [error completion]}]`},
		{nil, []string{`<https://a/x>`}, 400, "calls nobody back"},
		{allow, []string{`<https://evil/x>`}, 400, onlySome},
		{allow, []string{`<https://a/x>; on="error failure"`}, 400, `not of "failure"`},
		{allow, []string{`<https://a/x>; on="error error"`}, 400, `each once`},
		{allow, []string{`<https://a/x>; on=""`}, 400, "says what it is told of"},
		{allow, []string{`<ftp://a/x>`}, 400, "as in https://host/path"},
		{allow, []string{`<https://u:p@a/x>`}, 400, "no user"},
		{allow, []string{`<https://a/` + strings.Repeat("x", 2000) + `>`}, 400, "longer than"},
		{allow, []string{`<https://a>, <https://b>, <https://c>, <https://d>, <https://e>`}, 400, "at most 4"},
		{allow, []string{`https://a/x`}, 400, form},
		{allow, []string{`<https://a/x`}, 400, form},
		{allow, []string{`<https://a/x>; on=error`}, 400, form},
		{allow, []string{`<https://a/x>; on="error`}, 400, form},
		{allow, []string{`<https://a/x> on="error"`}, 400, form},
		{allow, []string{`<https://a/x>,`}, 400, form},
		{allow, []string{``}, 400, form},
	} {
		s := mem.New()
		rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{orders.Domain}, Callbacks: c.allowed})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/order/o/create", strings.NewReader(`{"customer":"ann"}`))
		r.Header.Set("Idempotency-Key", "k")
		for _, h := range c.headers {
			r.Header.Add("Deed-Callback", h)
		}
		w := httptest.NewRecorder()
		httpapi.New(rt, httpapi.Options{}).ServeHTTP(w, r)
		if w.Code != c.status {
			t.Errorf("%d: %q: %d %s", i, c.headers, w.Code, w.Body)
			continue
		}
		got := w.Body.String()
		if c.status == http.StatusAccepted {
			got = stored(t, s, rt)
		}
		if !strings.Contains(strings.ReplaceAll(got, `\"`, `"`), c.want) {
			t.Errorf("%d: %q: got %s, want %s", i, c.headers, got, c.want)
		}
		if head, err := s.Head(t.Context()); err != nil || c.status == http.StatusBadRequest && head != store.Start {
			t.Errorf("%d: something was stored (%v)", i, err)
		}
	}
}

// stored are the callbacks of the command k.
func stored(t *testing.T, s store.Store, rt *deed.Runtime) string {
	t.Helper()
	for rec, err := range s.Read(t.Context(), "$command/k", store.Range{Limit: 1}) {
		if err != nil {
			t.Fatal(err)
		}
		e, err := rt.DecodeEvent("$command", rec.Type, rec.Data)
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("%v", e)
		return text[max(0, strings.Index(text, "[{http")):]
	}
	return "nothing"
}
