package httpapi_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/examples/conference"
	"github.com/deed-dev/deed/examples/orders"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/store/mem"
)

func serve(t testing.TB) string {
	return deedtest.Serve(t, mem.New(), orders.Domain, conference.Domain)
}

// raw sends a request as it is, without a client tidying it up, and returns
// status and problem.
func raw(t testing.TB, base, method, target, body string, headers ...string) (int, httpapi.Problem) {
	t.Helper()
	host := strings.TrimPrefix(base, "http://")
	conn, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Length: %d\r\n", method, target, host, len(body))
	for i := 0; i < len(headers); i += 2 {
		fmt.Fprintf(&b, "%s: %s\r\n", headers[i], headers[i+1])
	}
	b.WriteString("\r\n")
	b.WriteString(body)
	io.WriteString(conn, b.String()) // the server may answer and hang up before it has read all
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%s %.80s: %v", method, target, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil && resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Fatal(err)
	}
	var p httpapi.Problem
	if resp.StatusCode >= 400 {
		json.Unmarshal(data, &p)
		if resp.Header.Get("Content-Type") == "application/problem+json" && (p.Code == "" || p.Status != resp.StatusCode || p.Request == "") {
			t.Errorf("%s %.80s: the problem is incomplete: %s", method, target, data)
		}
	}
	return resp.StatusCode, p
}

// Bad input is answered with its code: no panic, no 5xx.
func TestBadRequests(t *testing.T) {
	base := serve(t)
	create := func(body string) (int, httpapi.Problem) { return raw(t, base, "POST", "/v1/order/o-1/create", body) }
	ok := `{"customer":"c"}`
	if status, p := create(ok); status != 200 {
		t.Fatalf("a good request: %d %+v", status, p)
	}
	deep := strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000)
	item := func(fields string) string { return `{"customer":"c","items":[{` + fields + `}]}` }
	long := strings.Repeat("x", 300)
	for _, c := range []struct {
		name, method, target, body string
		headers                    []string
		status                     int
		code                       string
	}{
		// bodies
		{"no JSON", "POST", "/v1/order/a/create", "hello", nil, 400, "invalid"},
		{"half JSON", "POST", "/v1/order/a/create", `{"customer":`, nil, 400, "invalid"},
		{"two values", "POST", "/v1/order/a/create", ok + ok, nil, 400, "invalid"},
		{"trailing text", "POST", "/v1/order/a/create", ok + "x", nil, 400, "invalid"},
		{"a list", "POST", "/v1/order/a/create", `[]`, nil, 400, "invalid"},
		{"null", "POST", "/v1/order/a/create", `null`, nil, 400, "invalid"},
		{"a string", "POST", "/v1/order/a/create", `"x"`, nil, 400, "invalid"},
		{"unknown field", "POST", "/v1/order/a/create", `{"customer":"c","extra":1}`, nil, 400, "invalid"},
		{"other case", "POST", "/v1/order/a/create", `{"Customer":"c"}`, nil, 400, "invalid"},
		{"field twice", "POST", "/v1/order/a/create", `{"customer":"c","customer":"d"}`, nil, 400, "invalid"},
		{"missing field", "POST", "/v1/order/a/create", `{}`, nil, 400, "invalid"},
		{"empty body", "POST", "/v1/order/a/create", ``, nil, 400, "invalid"},
		{"mistyped", "POST", "/v1/order/a/create", `{"customer":5}`, nil, 400, "invalid"},
		{"null field", "POST", "/v1/order/a/create", `{"customer":null}`, nil, 400, "invalid"},
		{"mistyped deep inside", "POST", "/v1/order/a/create", item(`"product":"p","name":"n","quantity":"many"`), nil, 400, "invalid"},
		{"a fraction", "POST", "/v1/order/a/create", item(`"product":"p","name":"n","quantity":1.5`), nil, 400, "invalid"},
		{"2^63", "POST", "/v1/order/a/create", item(`"product":"p","name":"n","quantity":9223372036854775808`), nil, 400, "invalid"},
		{"1e400", "POST", "/v1/order/a/create", item(`"product":"p","name":"n","quantity":1e400`), nil, 400, "invalid"},
		{"negative", "POST", "/v1/order/a/create", item(`"product":"p","name":"n","quantity":-1,"unit_price":{"amount":1,"currency":"EUR"}`), nil, 400, "invalid"},
		{"NaN", "POST", "/v1/order/a/create", `{"customer":NaN}`, nil, 400, "invalid"},
		{"comment", "POST", "/v1/order/a/create", `{/*x*/"customer":"c"}`, nil, 400, "invalid"},
		{"invalid UTF-8", "POST", "/v1/order/a/create", "{\"customer\":\"\xff\"}", nil, 400, "invalid"},
		{"lone surrogate", "POST", "/v1/order/a/create", `{"customer":"\ud800"}`, nil, 400, "invalid"},
		{"raw NUL", "POST", "/v1/order/a/create", "{\"customer\":\"\x00\"}", nil, 400, "invalid"},
		{"10,000 deep", "POST", "/v1/order/a/create", deep, nil, 400, "invalid"},
		{"10,000 lists deep", "POST", "/v1/order/a/create", strings.Repeat("[", 10_000), nil, 400, "invalid"},
		{"2 MB", "POST", "/v1/order/a/create", `{"customer":"` + strings.Repeat("x", 2<<20) + `"}`, nil, 413, "too_large"},
		{"bad time", "POST", "/v1/order/a/ship", `{"tracking":"t","carrier":"c","estimated_delivery":"tomorrow"}`, nil, 400, "invalid"},
		{"compaction of nothing", "POST", "/v1/compaction", `{}`, nil, 400, "invalid"},
		{"compaction of days", "POST", "/v1/compaction", `{"older_than":"30 days"}`, nil, 400, "invalid"},
		{"compaction of the future", "POST", "/v1/compaction", `{"older_than":"-1h"}`, nil, 400, "invalid"},
		{"forgetting without a reason", "POST", "/v1/followers/order-summaries/forget", `{}`, nil, 400, "invalid"},
		{"forgetting one that runs", "POST", "/v1/followers/order-summaries/forget", `{"reason":"r"}`, nil, 409, "conflict"},
		{"forgetting nobody", "POST", "/v1/followers/nobody/forget", `{"reason":"r"}`, nil, 404, "not_found"},
		// names and ids
		{"unknown aggregate", "POST", "/v1/nothing/a/create", ok, nil, 404, "not_found"},
		{"unknown command", "POST", "/v1/order/a/fly", ok, nil, 404, "not_found"},
		{"command of another", "POST", "/v1/order/a/register", ok, nil, 404, "not_found"},
		{"id with ..", "POST", "/v1/order/../create", ok, nil, 400, "invalid"},
		{"id with %2e%2e", "POST", "/v1/order/%2e%2e/create", ok, nil, 400, "invalid"},
		{"id with ../", "POST", "/v1/order/..%2fx/create", ok, nil, 400, "invalid"},
		{"id with a slash", "POST", "/v1/order/a%2fb/create", ok, nil, 400, "invalid"},
		{"id with a backslash", "POST", "/v1/order/a%5cb/create", ok, nil, 400, "invalid"},
		{"id with NUL", "POST", "/v1/order/a%00b/create", ok, nil, 400, "invalid"},
		{"id with a newline", "POST", "/v1/order/a%0ab/create", ok, nil, 400, "invalid"},
		{"id with invalid UTF-8", "POST", "/v1/order/%ff/create", ok, nil, 400, "invalid"},
		{"id of blanks", "POST", "/v1/order/%20/create", ok, nil, 400, "invalid"},
		{"long id", "POST", "/v1/order/" + long + "/create", ok, nil, 400, "invalid"},
		{"empty id", "POST", "/v1/order//create", ok, nil, 400, "invalid"},
		{"state of ..", "GET", "/v1/order/%2e%2e", "", nil, 400, "invalid"},
		{"system stream as an entity", "GET", "/v1/$command/x", "", nil, 404, "not_found"},
		// headers
		{"long key", "POST", "/v1/order/a/create", ok, []string{"Idempotency-Key", strings.Repeat("k", 129)}, 400, "invalid"},
		{"empty key", "POST", "/v1/order/a/create", ok, []string{"Idempotency-Key", ""}, 400, "invalid"},
		{"two keys", "POST", "/v1/order/a/create", ok, []string{"Idempotency-Key", "a", "Idempotency-Key", "b"}, 400, "invalid"},
		{"key with invalid UTF-8", "POST", "/v1/order/a/create", ok, []string{"Idempotency-Key", "\xff"}, 400, "invalid"},
		{"If-Match *", "POST", "/v1/order/o-1/submit", "", []string{"If-Match", "*"}, 400, "invalid"},
		{"If-Match text", "POST", "/v1/order/o-1/submit", "", []string{"If-Match", `"abc"`}, 400, "invalid"},
		{"If-Match 2^63", "POST", "/v1/order/o-1/submit", "", []string{"If-Match", `"9223372036854775808"`}, 400, "invalid"},
		{"If-Match -1", "POST", "/v1/order/o-1/submit", "", []string{"If-Match", `"-1"`}, 400, "invalid"},
		{"long actor", "POST", "/v1/order/a/create", ok, []string{"X-Actor", long}, 400, "invalid"},
		{"another site", "POST", "/v1/order/a/create", ok, []string{"Sec-Fetch-Site", "cross-site"}, 403, "forbidden"},
		// parameters
		{"unknown parameter", "GET", "/v1/order/o-1?versoin=1", "", nil, 400, "invalid"},
		{"version text", "GET", "/v1/order/o-1?version=x", "", nil, 400, "invalid"},
		{"version 0", "GET", "/v1/order/o-1?version=0", "", nil, 400, "invalid"},
		{"version 2^64", "GET", "/v1/order/o-1?version=18446744073709551616", "", nil, 400, "invalid"},
		{"version negative", "GET", "/v1/order/o-1?version=-1", "", nil, 400, "invalid"},
		{"version and time", "GET", "/v1/order/o-1?version=1&at=2026-01-01T00:00:00Z", "", nil, 400, "invalid"},
		{"parameter twice", "GET", "/v1/order/o-1?version=1&version=2", "", nil, 400, "invalid"},
		{"bad time", "GET", "/v1/order/o-1?at=yesterday", "", nil, 400, "invalid"},
		{"bad position", "GET", "/v1/order/o-1?position=first", "", nil, 400, "invalid"},
		{"bad escape", "GET", "/v1/order/o-1?version=%zz", "", nil, 400, "invalid"},
		{"cursor text", "GET", "/v1/events?after=abc", "", nil, 400, "invalid"},
		{"cursor 2^63", "GET", "/v1/events?after=9223372036854775808", "", nil, 400, "invalid"},
		{"limit 0", "GET", "/v1/events?limit=0", "", nil, 400, "invalid"},
		{"limit large", "GET", "/v1/events?limit=1001", "", nil, 400, "invalid"},
		{"limit text", "GET", "/v1/events?limit=ten", "", nil, 400, "invalid"},
		{"live cursor", "GET", "/v1/events/live?after=abc", "", nil, 400, "invalid"},
		{"live Last-Event-ID", "GET", "/v1/events/live", "", []string{"Last-Event-ID", "' OR 1=1"}, 400, "invalid"},
		{"stream version 2^63", "GET", "/v1/streams/order/o-1?from=9223372036854775808", "", nil, 400, "invalid"},
		{"stream backward maybe", "GET", "/v1/streams/order/o-1?backward=maybe", "", nil, 400, "invalid"},
		{"stream with NUL", "GET", "/v1/streams/order/%00", "", nil, 400, "invalid"},
		{"no such stream", "GET", "/v1/streams/order/none", "", nil, 404, "not_found"},
		{"stream with ..", "GET", "/v1/streams/order/../x", "", nil, 400, "invalid"},
		// views
		{"unknown view", "GET", "/v1/views/none", "", nil, 404, "not_found"},
		{"unknown document", "GET", "/v1/views/order-summaries/none", "", nil, 404, "not_found"},
		{"unknown document of an unknown view", "GET", "/v1/views/none/none", "", nil, 404, "not_found"},
		{"no index", "GET", "/v1/views/order-summaries?where=item_count=1", "", nil, 400, "invalid"},
		{"sort by no index", "GET", "/v1/views/order-summaries?sort=tracking", "", nil, 400, "invalid"},
		{"condition without operator", "GET", "/v1/views/order-summaries?where=status", "", nil, 400, "invalid"},
		{"condition without field", "GET", "/v1/views/order-summaries?where==x", "", nil, 400, "invalid"},
		{"injected field", "GET", "/v1/views/order-summaries?where=" + url.QueryEscape(`status')--=x`), "", nil, 400, "invalid"},
		{"number that is text", "GET", "/v1/views/order-summaries?where=total.amount=lots", "", nil, 400, "invalid"},
		{"number NaN", "GET", "/v1/views/order-summaries?where=total.amount=NaN", "", nil, 400, "invalid"},
		{"too many conditions", "GET", "/v1/views/order-summaries?" + strings.Repeat("where=status=x&", 21), "", nil, 400, "invalid"},
		{"no such field", "GET", "/v1/views/order-summaries?fields=status,secret", "", nil, 400, "invalid"},
		{"no such field of a document", "GET", "/v1/views/order-summaries/o-1?fields=total.secret", "", nil, 400, "invalid"},
		{"fields of an unknown view", "GET", "/v1/views/none?fields=a", "", nil, 404, "not_found"},
		{"no field", "GET", "/v1/views/order-summaries?fields=", "", nil, 400, "invalid"},
		{"field without a name", "GET", "/v1/views/order-summaries?fields=status,,total", "", nil, 400, "invalid"},
		{"a field of text", "GET", "/v1/views/order-summaries?fields=status.length", "", nil, 400, "invalid"},
		{"too many fields", "GET", "/v1/views/order-summaries?fields=" + strings.Repeat("status,", 50) + "status", "", nil, 400, "invalid"},
		{"fields twice", "GET", "/v1/views/order-summaries?fields=status&fields=total", "", nil, 400, "invalid"},
		{"count maybe", "GET", "/v1/views/order-summaries?count=maybe", "", nil, 400, "invalid"},
		{"count of one", "GET", "/v1/views/order-summaries/o-1?count=true", "", nil, 400, "invalid"},
		{"search for nothing", "GET", "/v1/views/order-summaries?search=", "", nil, 400, "invalid"},
		{"search for a dash", "GET", "/v1/views/order-summaries?search=-", "", nil, 400, "invalid"},
		{"search with an open quotation mark", "GET", "/v1/views/order-summaries?search=%22red", "", nil, 400, "invalid"},
		{"search for all", "GET", "/v1/views/order-summaries?search=*", "", nil, 400, "invalid"},
		{"search for bytes", "GET", "/v1/views/order-summaries?search=%ff", "", nil, 400, "invalid"},
		{"long search", "GET", "/v1/views/order-summaries?search=" + strings.Repeat("x", 300), "", nil, 400, "invalid"},
		{"search where nothing is searched", "GET", "/v1/views/customers?search=red", "", nil, 400, "invalid"},
		{"search of one document", "GET", "/v1/views/order-summaries/o-1?search=red", "", nil, 400, "invalid"},
		{"bad mark", "GET", "/v1/views/order-summaries?after=%21", "", nil, 400, "invalid"},
		{"mark of another kind", "GET", "/v1/views/order-summaries?after=W10", "", nil, 400, "invalid"},
		{"bad wait", "GET", "/v1/views/order-summaries/o-1?min-position=1&wait=forever", "", nil, 400, "invalid"},
		{"long wait", "GET", "/v1/views/order-summaries/o-1?min-position=1&wait=1h", "", nil, 400, "invalid"},
		{"position not there yet", "GET", "/v1/views/order-summaries/o-1?min-position=999999&wait=1ms", "", nil, 503, "unavailable"},
		{"past of what handlers write", "GET", "/v1/views/outbox?version=1", "", nil, 400, "invalid"},
		// operations
		{"no such follower", "POST", "/v1/followers/none/pause", "", nil, 404, "not_found"},
		{"rebuild a handler", "POST", "/v1/followers/confirmation-mails/rebuild", "", nil, 409, "conflict"},
		{"no such verb", "POST", "/v1/followers/customers/explode", "", nil, 404, "not_found"},
		{"no such dead letter", "POST", "/v1/dead-letters/customers.17/redrive", "", nil, 404, "not_found"},
		{"no dead letter id", "POST", "/v1/dead-letters/x/redrive", "", nil, 404, "not_found"},
		{"discard without a reason", "POST", "/v1/dead-letters/customers.17/discard", "{}", nil, 400, "invalid"},
		{"discard with nonsense", "POST", "/v1/dead-letters/customers.17/discard", "nonsense", nil, 400, "invalid"},
		{"dead letters of nobody", "GET", "/v1/dead-letters?follower=none", "", nil, 404, "not_found"},
		{"dead letters after nonsense", "GET", "/v1/dead-letters?after=x", "", nil, 400, "invalid"},
		{"no such command", "GET", "/v1/commands/none", "", nil, 404, "not_found"},
		{"command id with a newline", "GET", "/v1/commands/a%0ab", "", nil, 400, "invalid"},
		// routes
		{"no such route", "GET", "/v2/order/o-1", "", nil, 404, "not_found"},
		{"root", "GET", "/nothing", "", nil, 404, "not_found"},
		{"DELETE", "DELETE", "/v1/order/o-1", "", nil, 405, "method_not_allowed"},
		{"odd method", "BREW", "/v1/order/o-1", "", nil, 405, "method_not_allowed"},
		{"double slash", "GET", "//v1//order/o-1", "", nil, 400, "invalid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, p := raw(t, base, c.method, c.target, c.body, c.headers...)
			if status != c.status || p.Code != c.code {
				t.Errorf("got %d %s (%s), want %d %s", status, p.Code, p.Detail, c.status, c.code)
			}
			if strings.Contains(p.Detail, "goroutine") || strings.Contains(p.Detail, ".go:") {
				t.Errorf("the detail says too much: %s", p.Detail)
			}
		})
	}
	if status, _ := raw(t, base, "GET", "/v1/order/a", ""); status != 404 {
		t.Errorf("a refused request left order/a behind: %d", status)
	}
}

// A body of 100 MB costs no more than the limit.
func TestLargeBodiesCostLittle(t *testing.T) {
	base := serve(t)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	body := io.MultiReader(strings.NewReader(`{"customer":"`), io.LimitReader(zeros{}, 100<<20))
	resp, err := http.Post(base+"/v1/order/big/create", "application/json", body)
	if err == nil { // else the server has hung up in the middle, as it may
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("status %d", resp.StatusCode)
		}
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.TotalAlloc - before.TotalAlloc); grown > 20<<20 {
		t.Errorf("%d bytes were allocated for a body that is refused", grown)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = '0'
	}
	return len(b), nil
}

func FuzzBody(f *testing.F) {
	for _, s := range []string{`{}`, `{"customer":"c"}`, `{"customer":"c","items":[{"product":"p"}]}`, `[`, "\xff", `{"a":{"a":{"a":1}}}`} {
		f.Add(s)
	}
	base := serve(f)
	f.Fuzz(func(t *testing.T, body string) {
		status, p := raw(t, base, "POST", "/v1/order/create", body)
		if status >= 500 || status >= 400 && p.Code == "" {
			t.Errorf("%q: %d %+v", body, status, p)
		}
	})
}

func FuzzQuery(f *testing.F) {
	for _, s := range []string{"search=red+%22blue+door%22+rep*", "search=%22&count", "fields=status,total.amount&count=true", "where=status=Draft", "sort=-total.amount&after=W10", "limit=1&where=total.amount>=5", "at=x", "%zz"} {
		f.Add(s)
	}
	base := serve(f)
	raw(f, base, "POST", "/v1/order/o-1/create", `{"customer":"c"}`)
	f.Fuzz(func(t *testing.T, query string) {
		for _, path := range []string{"/v1/views/order-summaries", "/v1/events", "/v1/streams/order/o-1", "/v1/order/o-1"} {
			target := path + "?" + strings.Map(func(r rune) rune {
				if r <= ' ' || r == 0x7f || r == '#' {
					return '_'
				}
				return r
			}, query)
			if len(target) > 8000 {
				return
			}
			if status, p := raw(t, base, "GET", target, ""); status >= 500 && p.Code != "unavailable" {
				t.Errorf("%s: %d %+v", target, status, p)
			}
		}
	})
}
