package httpapi_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/auth"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/backends"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

var (
	readFuzz = flag.Int("readfuzz", 450, "how many reads each store is asked for, most of them odd")
	readSeed = flag.Uint64("readseed", 1, "of the reads")
)

// A file has fields of every kind that can be filtered and sorted by.
type (
	file struct {
		Name string   `json:"name"`
		N    int64    `json:"n"`
		X    float64  `json:"x"`
		OK   bool     `json:"ok"`
		At   filedAt  `json:"at"`
		Deep filedFor `json:"deep"`
		Note *string  `json:"note,omitempty"`
		Mark string   `json:"mark"` // says in which view the document is, and is in no input
	}
	filedAt  = time.Time
	filedFor struct {
		City string `json:"city"`
	}
	filed struct {
		File file `json:"file"`
	}
)

func (filed) Apply(*file) {}

var (
	fileIndexes = []string{"name", "n", "x", "ok", "at", "deep.city", "note"}
	fileTexts   = []string{"name", "deep.city", "note"}
)

// A cabinet is a server with three views and three groups of the same documents:
// one of each for readers, for those with the role a, and for those with the role b.
type cabinet struct {
	handler http.Handler
	keys    map[string]string // of actors who have the role of their name
	roles   map[string]string // who may read what, by the path
	docs    map[string][]store.Doc
	texts   map[string][]string          // the fields that are searched, by the path
	kinds   map[string]map[string]string // of the fields, by the path
	mark    string                       // in all documents
	first   time.Time
	last    time.Time
	head    string
}

func newCabinet(t testing.TB, s store.Store) *cabinet {
	t.Helper()
	c := &cabinet{
		mark: uuid.NewString(), keys: map[string]string{}, roles: map[string]string{}, docs: map[string][]store.Doc{}, texts: map[string][]string{}, kinds: map[string]map[string]string{},
	}
	files := deed.Aggregate[file]{Name: "file", Events: map[string]deed.Event[file]{"filed": filed{}}}
	parts := []deed.Part{files}
	for _, role := range []string{"reader", "a", "b"} {
		on := deed.On(func(f *file, e filed) { *f = e.File; f.Mark = c.mark + role })
		p := deed.Projection[file]{Name: "files-" + role, Indexes: fileIndexes, Search: fileTexts, On: []deed.Handler[file]{on}, Roles: []string{role}}
		parts = append(parts, p, deed.Classifier[file]{
			Name: "ok-" + role, Of: deed.Projection[file]{Name: p.Name, Indexes: fileIndexes, Search: fileTexts, On: p.On}, Roles: []string{role},
			Verdict: func(f file) deed.Verdict { return full(jar{map[bool]int{true: 11}[f.OK]}) },
		})
		c.roles["/v1/views/files-"+role], c.roles["/v1/groups/ok-"+role] = role, role
	}
	rt := deedtest.StartOn(t, s, deed.Domain{Name: "files", Parts: parts})
	c.fill(t, s)
	head, err := s.Head(t.Context())
	if err == nil {
		err = rt.WaitFor(t.Context(), deed.Receipt{Position: string(head)})
	}
	if err != nil {
		t.Fatal(err)
	}
	c.head = string(head)
	c.learn(t, rt)
	keys := auth.NewKeys(s)
	for _, role := range []string{"reader", "a", "b"} {
		_, text, err := keys.Create(t.Context(), auth.By{Actor: "root"}, auth.NewKey{Actor: role, Roles: []string{role}})
		if err != nil {
			t.Fatal(err)
		}
		c.keys[role] = text
	}
	c.handler = httpapi.New(rt, httpapi.Options{Logger: slog.New(slog.DiscardHandler), Auth: keys, Keys: keys})
	return c
}

// names are texts that are awkward in one place or another.
var names = []string{"", "a", "b", "A", "Z", "é", "日本", "a'b", `a"b`, "a\\b", "a=b", "null", "true", "12", "-1e3", "%", "a b", "\u00a0", "\U0001F600", "%25", "a;b", "--", "<=", "2026-01-02T03:04:05Z"}

var numbers = []int64{0, 1, -1, 7, 7, 7, 1 << 53, 1<<53 + 1, math.MaxInt64, math.MinInt64}

var floats = []float64{0, 1, -1, 0.5, 7, 1e300, -1e300, 1e-300, 1 << 53, 0.1}

const files = 60

func aFile(rnd *rand.Rand) (f file) {
	f.Name, f.N, f.X, f.OK = one(rnd, names), one(rnd, numbers), one(rnd, floats), rnd.IntN(2) == 0
	f.At = time.Unix(int64(rnd.IntN(4)), int64(rnd.IntN(3))*1000).UTC()
	f.Deep.City = one(rnd, names)
	if rnd.IntN(3) > 0 {
		note := one(rnd, names)
		f.Note = &note
	}
	return f
}

func one[T any](rnd *rand.Rand, of []T) T { return of[rnd.IntN(len(of))] }

func (c *cabinet) fill(t testing.TB, s store.Store) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(7, 7))
	for i := range files {
		data, err := json.Marshal(filed{aFile(rnd)})
		if err != nil {
			t.Fatal(err)
		}
		e := store.Event{ID: store.ID(uuid.New()), Type: "filed", Data: data, Meta: []byte(`{}`)}
		w, err := s.Append(t.Context(), store.Write{Stream: fmt.Sprintf("file/k-%02d", i), Expect: store.Any, Events: []store.Event{e}})
		if err != nil {
			t.Fatal(err)
		}
		if c.last = w[0].Time; i == 0 {
			c.first = c.last
		}
	}
}

// learn reads the documents of all views and groups, without a filter.
func (c *cabinet) learn(t testing.TB, rt *deed.Runtime) {
	t.Helper()
	for path, role := range c.roles {
		kinds, all, err := map[string]string{}, []deed.Row[json.RawMessage](nil), error(nil)
		prefix, group := "", strings.HasPrefix(path, "/v1/groups/")
		if group {
			prefix = "of."
			kinds["in"], kinds["ever_in"], kinds["since"] = "boolean", "boolean", "time"
			all, err = rt.GroupMembers(t.Context(), rt, "ok-"+role, nil, store.Query{})
		} else {
			all, err = rt.Documents(t.Context(), rt, "files-"+role, store.Query{})
		}
		if err != nil || len(all) != files {
			t.Fatal(path, len(all), err)
		}
		for _, f := range fileIndexes {
			kinds[prefix+f] = map[string]string{"n": "number", "x": "number", "ok": "boolean", "at": "time"}[f]
		}
		for _, f := range fileTexts {
			c.texts[path] = append(c.texts[path], prefix+f)
		}
		c.kinds[path] = kinds
		for _, row := range all {
			if !group || store.FieldOf(row.Value, "in") == true {
				c.docs[path] = append(c.docs[path], store.Doc{Key: row.Key, Data: row.Value})
			}
		}
	}
}

// A look is a request of somebody, and what is known of its answer beforehand.
type look struct {
	actor string // "" = nobody
	path  string
	query string
	want  int // status; 0 = whatever is right
}

func (l look) String() string { return fmt.Sprintf("%s: GET %q ?%q", l.actor, l.path, l.query) }

// listing is what an answer lists.
type listing struct {
	Documents []struct {
		Key   string          `json:"key"`
		Value json.RawMessage `json:"value"`
	} `json:"documents"`
	Members []struct {
		Key string          `json:"key"`
		In  bool            `json:"in"`
		Of  json.RawMessage `json:"of"`
	} `json:"members"`
	Next string `json:"next"`
}

func (l listing) keys() (keys []string) {
	for _, d := range l.Documents {
		keys = append(keys, d.Key)
	}
	for _, m := range l.Members {
		keys = append(keys, m.Key)
	}
	return keys
}

// check asks for something, and wants the answer to be right. It returns where to
// go on.
func (c *cabinet) check(l look) (status int, next string, err error) {
	status, body := c.get(l)
	path := strings.TrimSuffix(l.path, "/")
	if role, known := c.roles[path]; known && status == http.StatusOK && role != l.actor {
		return status, "", fmt.Errorf("%v: answered to somebody without the role %s", l, role)
	}
	for _, role := range []string{"reader", "a", "b"} {
		if role != l.actor && strings.Contains(body, c.mark+role) {
			return status, "", fmt.Errorf("%v: tells what is for %s: %.300s", l, role, body)
		}
	}
	switch {
	case l.want != 0 && status != l.want:
		return status, "", fmt.Errorf("%v: %d, want %d: %.300s", l, status, l.want, body)
	case status >= 500 && (status != http.StatusServiceUnavailable || !strings.Contains(l.query, "min-position")):
		return status, "", fmt.Errorf("%v: %d: %.300s", l, status, body)
	case status != http.StatusOK || c.roles[path] == "":
		return status, "", nil
	}
	var got listing
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		return status, "", fmt.Errorf("%v: %w", l, err)
	}
	q, err := url.ParseQuery(l.query)
	if err != nil {
		return status, "", fmt.Errorf("%v: answered, though it is malformed", l)
	}
	if q.Get("fields") == "" {
		if err := c.genuine(path, got); err != nil {
			return status, "", fmt.Errorf("%v: %w", l, err)
		}
	}
	want, more, known, err := c.expected(path, q)
	if err != nil {
		return status, "", fmt.Errorf("%v: answered, though %w", l, err)
	}
	if known && (!slices.Equal(got.keys(), want) || (got.Next != "") != more) {
		return status, "", fmt.Errorf("%v:\n%q, next %q\nwant %q, more: %v", l, got.keys(), got.Next, want, more)
	}
	return status, got.Next, nil
}

func (c *cabinet) get(l look) (int, string) {
	r := &http.Request{Method: "GET", URL: &url.URL{Path: l.path, RawQuery: l.query}, Header: http.Header{}, Host: "localhost", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody}
	if l.actor != "" {
		r.Header.Set("Authorization", "Bearer "+c.keys[l.actor])
	}
	w := httptest.NewRecorder()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c.handler.ServeHTTP(w, r.WithContext(ctx))
	return w.Code, w.Body.String()
}

// genuine reports whether all that is listed is what the view has.
func (c *cabinet) genuine(path string, got listing) error {
	values := map[string]string{}
	for _, d := range c.docs[path] {
		var b bytes.Buffer
		json.HTMLEscape(&b, d.Data)
		values[d.Key] = b.String()
	}
	for _, d := range got.Documents {
		if v, ok := values[d.Key]; !ok || v != string(d.Value) {
			return fmt.Errorf("%s is %s, the view has %s", d.Key, d.Value, v)
		}
	}
	for _, m := range got.Members {
		if v, ok := values[m.Key]; !ok || !m.In || !strings.Contains(v, string(m.Of)) {
			return fmt.Errorf("%s is %s, the group has %s", m.Key, m.Of, v)
		}
	}
	return nil
}

// expected says what q asks of a view or a group, as its documentation has it. It
// does not know everything: what is of another time, for one thing.
func (c *cabinet) expected(path string, q url.Values) (keys []string, more, known bool, err error) {
	docs, known := c.docs[path], true
	for name := range q {
		v := q.Get(name)
		switch t, err := time.Parse(time.RFC3339Nano, v); {
		case v == "":
		case name == "at" || name == "effective":
			if err != nil {
				return nil, false, false, fmt.Errorf("%s is no time", v)
			}
			if t.Before(c.first) {
				docs = nil
			}
			known = known && (t.Before(c.first) || !t.Before(c.last))
		case name == "position":
			known = known && v == c.head
		case name == "fields":
			known = false
		}
	}
	sq := store.Query{Sort: strings.TrimPrefix(q.Get("sort"), "-"), Desc: strings.HasPrefix(q.Get("sort"), "-")}
	if sq.Search = q.Get("search"); sq.Search != "" {
		sq.Text = c.texts[path]
	}
	for _, w := range q["where"] {
		cond, err := c.condition(path, w)
		if err != nil {
			return nil, false, false, err
		}
		sq.Where = append(sq.Where, cond)
	}
	if after := q.Get("after"); after != "" {
		if sq.After, err = markOf(after); err != nil {
			return nil, false, false, err
		}
	}
	limit := 100
	if q.Get("limit") != "" {
		if limit, err = strconv.Atoi(q.Get("limit")); err != nil || limit < 1 || limit > 1000 {
			return nil, false, false, fmt.Errorf("the limit is %s", q.Get("limit"))
		}
	}
	for d, err := range store.Scan(func(yield func(store.Doc, error) bool) {
		for _, d := range docs {
			if !yield(d, nil) {
				return
			}
		}
	}, sq) {
		if err != nil {
			return nil, false, false, err
		}
		keys = append(keys, d.Key)
	}
	if len(keys) > limit {
		return keys[:limit], true, known, nil
	}
	return keys, false, known, nil
}

var conditionForm = regexp.MustCompile(`(?s)^([^=!<>]+)(!=|<=|>=|=|<|>)(.*)$`)

func (c *cabinet) condition(path, w string) (store.Cond, error) {
	m := conditionForm.FindStringSubmatch(w)
	if m == nil {
		return store.Cond{}, fmt.Errorf("%q is no condition", w)
	}
	kind, indexed := c.kinds[path][m[1]]
	if !indexed {
		return store.Cond{}, fmt.Errorf("%q is no index", m[1])
	}
	cond, text := store.Cond{Field: m[1], Op: m[2], Value: m[3]}, m[3]
	var err error
	switch {
	case text == "null":
		cond.Value = nil
	case kind == "boolean":
		cond.Value, err = strconv.ParseBool(text)
	case kind == "number":
		if n, bad := strconv.ParseInt(text, 10, 64); bad == nil {
			cond.Value = n
			break
		}
		cond.Value, err = strconv.ParseFloat(text, 64)
	case kind == "time":
		var t time.Time
		t, err = time.Parse(time.RFC3339Nano, text)
		cond.Value = t.UTC().Format("2006-01-02T15:04:05.000000000Z")
	}
	return cond, err
}

// markOf reads a mark, which is JSON: the value of the field that is sorted by, a
// key, and what tells one query from another.
func markOf(text string) (*store.Mark, error) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	var parts []json.RawMessage
	m := &store.Mark{}
	if err = json.Unmarshal(b, &parts); err == nil && len(parts) == 3 {
		m.Value = store.FieldOf(fmt.Appendf(nil, `{"v":%s}`, parts[0]), "v")
		err = json.Unmarshal(parts[1], &m.Key)
	}
	if err != nil || len(parts) != 3 {
		return nil, fmt.Errorf("%s is no mark", b)
	}
	return m, nil
}

// A prober asks for one thing after the other, most of them odd.
type prober struct {
	*cabinet
	rnd   *rand.Rand
	asked int
	by    map[int]int // status
	paged int         // so many pages were gone through to the end
	marks []string    // that were given out
	of    []string    // the queries that they are of
}

// probe asks for a page, and then for things that are a little different.
func (p *prober) probe() error {
	rnd := p.rnd
	path := one(rnd, slices.Sorted(keysOf(p.roles)))
	q := p.someQuery(path)
	actor, want := p.roles[path], http.StatusOK
	next, err := p.ask(look{actor, path, q.Encode(), want})
	if err != nil {
		return err
	}
	if next != "" {
		if err := p.follow(actor, path, q, next); err != nil {
			return err
		}
	}
	for range 4 {
		if err := p.odd(path, q, next); err != nil {
			return err
		}
	}
	return nil
}

func keysOf[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func (p *prober) ask(l look) (next string, err error) {
	status, next, err := p.check(l)
	p.asked++
	p.by[status]++
	return next, err
}

// someQuery is a query that is good for a view or group.
func (p *prober) someQuery(path string) url.Values {
	rnd, q := p.rnd, url.Values{}
	fields := slices.Sorted(keysOf(p.kinds[path]))
	for range rnd.IntN(3) {
		f := one(rnd, fields)
		q.Add("where", f+one(rnd, []string{"=", "!=", "<", "<=", ">", ">="})+p.someValue(p.kinds[path][f]))
	}
	if rnd.IntN(2) == 0 {
		q.Set("sort", one(rnd, []string{"", "-"})+one(rnd, fields))
	}
	if rnd.IntN(4) == 0 {
		q.Set("search", one(rnd, []string{"a", "A", "b a", "e", `"e3"`, "e* 1*", "03 04", `"03 04"`, "日本", "true", "é", "É nothing"}))
	}
	if rnd.IntN(3) > 0 {
		q.Set("limit", strconv.Itoa(1+rnd.IntN(20)))
	}
	switch rnd.IntN(8) {
	case 0:
		q.Set("at", one(rnd, []string{"2999-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "2999-01-01T00:00:00.5+01:00"}))
	case 1:
		q.Set("position", p.head)
	case 2:
		q.Set("min-position", p.head)
	}
	return q
}

func (p *prober) someValue(kind string) string {
	rnd := p.rnd
	switch v := rnd.IntN(10); {
	case v == 0:
		return "null"
	case kind == "boolean":
		return one(rnd, []string{"true", "false", "1", "0"})
	case kind == "number" && v < 5:
		return strconv.FormatInt(one(rnd, numbers), 10)
	case kind == "number":
		return strconv.FormatFloat(one(rnd, floats), 'g', -1, 64)
	case kind == "time":
		return one(rnd, []string{"1970-01-01T00:00:01Z", "1970-01-01T00:00:02.000001Z", "1970-01-01T01:00:01.000002+01:00", "2999-01-01T00:00:00Z"})
	}
	return one(rnd, names)
}

// follow goes from page to page to the end: together they are the whole.
func (p *prober) follow(actor, path string, q url.Values, next string) error {
	if p.marks, p.of = append(p.marks, next), append(p.of, asked(path, q)); len(p.marks) > 100 {
		p.marks, p.of = p.marks[1:], p.of[1:]
	}
	p.paged++
	q = clone(q)
	q.Set("limit", strconv.Itoa(1+p.rnd.IntN(30)))
	for n := 0; next != ""; n++ {
		if n > files {
			return fmt.Errorf("%s?%s: the pages have no end", path, q.Encode())
		}
		q.Set("after", next)
		var err error
		if next, err = p.ask(look{actor, path, q.Encode(), http.StatusOK}); err != nil {
			return err
		}
	}
	return nil
}

// asked is the same for queries whose marks fit each other.
func asked(path string, q url.Values) string {
	return fmt.Sprintf("%s %q %q %q", path, q.Get("sort"), q.Get("search"), q["where"])
}

func clone(q url.Values) url.Values {
	c := url.Values{}
	for name, values := range q {
		c[name] = slices.Clone(values)
	}
	return c
}

// odd asks for something that is a little different from a good query: by
// somebody else, after a mark of another query or none at all, or garbled.
func (p *prober) odd(path string, q url.Values, next string) error {
	rnd, actor := p.rnd, p.roles[path]
	q = clone(q)
	l := look{actor: actor, path: path}
	switch rnd.IntN(6) {
	case 0: // somebody else
		for l.actor == actor {
			l.actor = one(rnd, []string{"reader", "a", "b", ""})
		}
		if l.want = http.StatusForbidden; l.actor == "" {
			l.want = http.StatusUnauthorized
		}
	case 1: // a mark of another query, or of another view
		if len(p.marks) == 0 {
			return nil
		}
		i := rnd.IntN(len(p.marks))
		if p.of[i] == asked(path, q) {
			return nil
		}
		q.Set("after", p.marks[i])
		l.want = http.StatusBadRequest
	case 2: // a mark that was made up
		if next == "" {
			return nil
		}
		q.Set("after", p.forged(next))
	case 3: // a document, or what is beyond it
		l.path += "/" + one(rnd, []string{"k-07", "k-99", "", "..", "../files-a", "%2e%2e/files-b", "k-07/", "\x00", "é"})
	case 4: // a garbled path
		l.path = garbled(rnd, path)
	case 5:
		l.query = garbled(rnd, q.Encode())
	}
	if l.query == "" {
		l.query = q.Encode()
	}
	_, err := p.ask(l)
	return err
}

// forged is a mark of the same query that nobody has given out.
func (p *prober) forged(mark string) string {
	b, _ := base64.RawURLEncoding.DecodeString(mark)
	var parts []json.RawMessage
	_ = json.Unmarshal(b, &parts)
	rnd := p.rnd
	switch rnd.IntN(4) {
	case 0:
		parts[0] = json.RawMessage(one(rnd, []string{"null", "true", `"x"`, "7", "-1e400", "1e999999", "9007199254740993", "0.5", "[]", "{}", `"\u0000"`, `"\ud800"`, "NaN", ""}))
	case 1:
		parts[1] = json.RawMessage(one(rnd, []string{`""`, `"k-3"`, `"zz"`, "null", "7", `"\u0000"`, `"é"`, `"` + strings.Repeat("k", 5000) + `"`}))
	case 2:
		parts[2] = json.RawMessage(one(rnd, []string{`""`, `"x"`, "null", "7"}))
	case 3:
		return garbled(rnd, mark)
	}
	var texts []string
	for _, part := range parts {
		texts = append(texts, string(part))
	}
	return base64.RawURLEncoding.EncodeToString([]byte("[" + strings.Join(texts, ",") + "]"))
}

// garbled is a text with a few bytes changed, gone, or come.
func garbled(rnd *rand.Rand, text string) string {
	b := []byte(text)
	for range 1 + rnd.IntN(3) {
		i := rnd.IntN(len(b) + 1)
		odd := one(rnd, []string{"%", "%00", "%ff", "&", "=", "where=", "&after=", "&sort=", "'", ";", "\x00", "\xff", "..", "/", "0", "-", "é", "&limit=1001", "&limit=0", "+", "<", "!"})
		switch rnd.IntN(3) {
		case 0:
			b = slices.Insert(b, i, []byte(odd)...)
		case 1:
			b = b[:i]
		case 2:
			if i < len(b) {
				b[i] = byte(rnd.IntN(256))
			}
		}
	}
	return string(b)
}

// Whatever is asked of views and groups, the answer is what the filters, the sort
// and the mark say, or a refusal: never a row of another page, of another view, or
// of one that is for somebody else.
func TestReadsAreWhatIsAsked(t *testing.T) {
	backends.Each(t, func(t *testing.T, open func(testing.TB) store.Store) {
		c := newCabinet(t, open(t))
		began := time.Now()
		var all sync.WaitGroup
		var mu sync.Mutex
		total := &prober{by: map[int]int{}}
		probers := runtime.GOMAXPROCS(0)
		for i := range probers {
			all.Go(func() {
				p := &prober{cabinet: c, rnd: rand.New(rand.NewPCG(*readSeed, uint64(i))), by: map[int]int{}}
				for p.asked < *readFuzz/probers {
					if err := p.probe(); err != nil {
						t.Errorf("-readseed %d: %v", *readSeed, err)
						break
					}
				}
				mu.Lock()
				defer mu.Unlock()
				total.asked, total.paged = total.asked+p.asked, total.paged+p.paged
				for status, n := range p.by {
					total.by[status] += n
				}
			})
		}
		all.Wait()
		t.Logf("%d reads in %v, by status: %v; %d lists were paged through", total.asked, time.Since(began).Round(time.Second), total.by, total.paged)
	})
}

func FuzzReads(f *testing.F) {
	c := newCabinet(f, mem.New())
	p := &prober{cabinet: c, rnd: rand.New(rand.NewPCG(1, 1)), by: map[int]int{}}
	for path, role := range c.roles {
		q := p.someQuery(path)
		f.Add(uint8(0), path, q.Encode())
		q.Set("limit", "3")
		if _, next, err := c.check(look{role, path, q.Encode(), 0}); err == nil && next != "" {
			q.Set("after", next)
			f.Add(uint8(1), path, q.Encode())
		}
	}
	f.Fuzz(func(t *testing.T, who uint8, path, query string) {
		actor := []string{"reader", "a", "b", ""}[who%4]
		for _, live := range []string{"live", "changes"} {
			if strings.Contains(path, live) { // an answer without an end
				return
			}
		}
		if !strings.HasPrefix(path, "/") {
			path = "/" + path
		}
		if strings.Contains(query, "wait") || strings.HasPrefix(path, "/v1/events") || strings.HasPrefix(path, "/v1/streams") {
			return
		}
		if _, _, err := c.check(look{actor, path, query, 0}); err != nil {
			t.Error(err)
		}
	})
}
