package inbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/store"
)

// A ticket can be opened again and again, so that what is done twice shows.
type ticket struct{ Opened int }

type opened struct {
	Title string `json:"title"`
}

func (opened) Apply(t *ticket) { t.Opened++ }

type open struct {
	Title string `json:"title"`
}

func (c open) Validate() error { return deed.Required("title", c.Title) }

func (c open) Decide(ticket) ([]deed.Event[ticket], error) {
	switch {
	case c.Title == "panic":
		panic("a defect")
	case c.Title == "no":
		return nil, deed.Reason{Code: "no_tickets", Text: "there are no tickets"}
	}
	return []deed.Event[ticket]{opened(c)}, nil
}

var tickets = deed.Domain{Name: "tickets", Parts: []deed.Part{deed.Aggregate[ticket]{
	Name: "ticket", Events: map[string]deed.Event[ticket]{"opened": opened{}}, Commands: map[string]deed.Command[ticket]{"open": open{}},
}}}

var openTicket = []Command{{"ticket", "open"}}

// quick are options for tests: nothing waits long.
func quick(t *testing.T) Options {
	return Options{Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Poll: 50 * time.Millisecond, Settle: 200 * time.Millisecond, Report: time.Second}
}

// rig is an inbox at work.
type rig struct {
	t    *testing.T
	dir  string // of the only command
	in   *Inbox
	stop func()
}

func run(t *testing.T, dir string, asker Asker, opts Options) *rig {
	t.Helper()
	return runFor(t, dir, openTicket, asker, opts)
}

// runFor looks after the folders of commands; the rig is for the first.
func runFor(t *testing.T, dir string, commands []Command, asker Asker, opts Options) *rig {
	t.Helper()
	in, err := New(dir, commands, asker, opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- in.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return &rig{t, filepath.Join(dir, commands[0].String()), in, stop}
}

// drop lets a file arrive as it should: written under another name first.
func drop(t testing.TB, dir, name, text string) {
	t.Helper()
	temp := filepath.Join(dir, "."+name+".tmp")
	if err := errors.Join(os.WriteFile(temp, []byte(text), 0o644), os.Rename(temp, filepath.Join(dir, name))); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) has(path string) bool {
	_, err := os.Lstat(filepath.Join(r.dir, path))
	return err == nil
}

// await waits for a file to be somewhere.
func (r *rig) await(path string) {
	r.t.Helper()
	for range 1000 {
		if r.has(path) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.t.Fatalf("%s does not come; there is %v", path, list(r.dir))
}

func (r *rig) problem(name string) httpapi.Problem {
	r.t.Helper()
	r.await("failed/" + name + ".json")
	data, err := os.ReadFile(filepath.Join(r.dir, "failed", name+".problem.json"))
	var p httpapi.Problem
	if err := errors.Join(err, json.Unmarshal(data, &p)); err != nil {
		r.t.Fatalf("the problem of %s: %v", name, err)
	}
	return p
}

// list lists the files below a folder.
func list(dir string) (all []string) {
	filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			all = append(all, rel)
		}
		return nil
	})
	return all
}

// events returns the events of a category, as the log has them.
func events(t testing.TB, s store.Store, category string) (all []store.Record) {
	t.Helper()
	for rec, err := range s.ReadAll(t.Context(), store.Start, store.Filter{Categories: []string{category}}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rec)
	}
	return all
}

func TestEveryKindOfFile(t *testing.T) {
	long := strings.Repeat("x", 240)
	cases := map[string]struct {
		name, text   string
		code, detail string // "" = it is handled
	}{
		"plain":               {name: "a", text: `{"id":"t-1","body":{"title":"one"}}`},
		"without id":          {name: "a", text: `{"body":{"title":"one"}}`},
		"as Windows saves it": {name: "a", text: "\ufeff{\r\n\t\"id\":\"t-1\",\r\n\t\"body\":{\"title\":\"one\"}\r\n}\r\n"},
		"UTF-16":              {name: "a", text: "\xff\xfe{\x00}\x00", code: "invalid", detail: "UTF-16: save it as UTF-8"},
		"only a mark":         {name: "a", text: "\ufeff", code: "invalid", detail: "ends too early"},
		"all members":         {name: "a", text: ` {"id":"t-2","body":{"title":"one"},"actor":"ann","correlation":"flow"} ` + "\n"},
		"id is empty":         {name: "a", text: `{"id":"","body":{"title":"one"}}`, code: "invalid", detail: "id is empty"},
		"id with a slash":     {name: "a", text: `{"id":"a/b","body":{"title":"one"}}`, code: "invalid", detail: "slash"},
		"no body":             {name: "a", text: `{"id":"t"}`, code: "invalid", detail: "body is missing"},
		"body is null":        {name: "a", text: `{"id":"t","body":null}`, code: "invalid", detail: "body must be a JSON object"},
		"body is a list":      {name: "a", text: `{"id":"t","body":[]}`, code: "invalid", detail: "body must be a JSON object"},
		"unknown member":      {name: "a", text: `{"id":"t","body":{},"colour":1}`, code: "invalid", detail: "colour is not a field"},
		"unknown field":       {name: "a", text: `{"id":"t","body":{"title":"a","colour":1}}`, code: "invalid", detail: "colour"},
		"member twice":        {name: "a", text: `{"id":"t","id":"u","body":{}}`, code: "invalid", detail: "id"},
		"id is a number":      {name: "a", text: `{"id":1,"body":{}}`, code: "invalid", detail: "id is a JSON number"},
		"actor with newline":  {name: "a", text: `{"id":"t","body":{"title":"a"},"actor":"a\nb"}`, code: "invalid", detail: "actor"},
		"a list":              {name: "a", text: `[{"body":{}}]`, code: "invalid", detail: "list"},
		"two values":          {name: "a", text: `{"body":{}} {"body":{}}`, code: "invalid", detail: "not JSON"},
		"empty":               {name: "a", text: ``, code: "invalid", detail: "ends too early"},
		"half":                {name: "a", text: `{"id":"t","bo`, code: "invalid", detail: "ends too early"},
		"zeros":               {name: "a", text: strings.Repeat("\x00", 50), code: "invalid", detail: "not JSON"},
		"not UTF-8":           {name: "a", text: "{\"id\":\"\xff\",\"body\":{}}", code: "invalid", detail: "not JSON"},
		"too deep":            {name: "a", text: `{"body":{"x":` + strings.Repeat("[", 80) + strings.Repeat("]", 80) + `}}`, code: "invalid", detail: "64 deep"},
		"too large":           {name: "a", text: `{"body":{"title":"` + strings.Repeat("x", 1<<20) + `"}}`, code: "too_large", detail: "larger than 1048576"},
		"validated":           {name: "a", text: `{"body":{}}`, code: "invalid", detail: "title is missing"},
		"rejected":            {name: "a", text: `{"body":{"title":"no"}}`, code: "rejected", detail: "there are no tickets"},
		"a defect":            {name: "a", text: `{"body":{"title":"panic"}}`, code: "internal"},
		"name with a space":   {name: "a b", text: `{"body":{"title":"one"}}`},
		"name with umlauts":   {name: "ü", text: `{"body":{"title":"one"}}`},
		"name with a newline": {name: "a\nb", text: `{"body":{"title":"one"}}`, code: "invalid", detail: "command id"},
		"name is not UTF-8":   {name: "a\xffb", text: `{"body":{"title":"one"}}`, code: "invalid", detail: "command id"},
		"name is too long":    {name: long, text: `{"body":{"title":"one"}}`, code: "invalid", detail: "longer than 128"},
	}
	for what, c := range cases {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			rt := deedtest.Start(t, tickets)
			r := run(t, t.TempDir(), Dispatcher{rt}, quick(t))
			drop(t, r.dir, c.name[:min(len(c.name), 200)]+".json", c.text)
			if len(c.name) > 200 {
				os.Rename(filepath.Join(r.dir, c.name[:200]+".json"), filepath.Join(r.dir, c.name+".json"))
			}
			if c.code == "" {
				r.await("done/" + c.name + ".json")
				if got := events(t, rt.Store(), "ticket"); len(got) != 1 || !bytes.Contains(got[0].Meta, []byte(`"source":"inbox"`)) {
					t.Errorf("events: %+v", got)
				}
				return
			}
			for range 1000 {
				if r.in.Stats().Failed == 1 {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			name := c.name
			if all := list(filepath.Join(r.dir, "failed")); len(all) != 2 {
				t.Fatalf("in failed is %v", all)
			} else if len(c.name) > 200 {
				name = strings.TrimSuffix(all[0], ".json")
			}
			p := r.problem(name)
			if p.Code != c.code || !strings.Contains(p.Detail, c.detail) || p.Status < 400 {
				t.Errorf("the problem is %+v", p)
			}
			if n := len(events(t, rt.Store(), "ticket")); n > 0 || len(list(r.dir)) != 2 {
				t.Errorf("%d events, files %v", n, list(r.dir))
			}
		})
	}
}

func TestNotFiles(t *testing.T) {
	rt := deedtest.Start(t, tickets)
	dir := t.TempDir()
	var log bytes.Buffer
	opts := quick(t)
	opts.Logger = slog.New(slog.NewTextHandler(&guarded{w: &log}, nil))
	good := `{"body":{"title":"one"}}`
	here := filepath.Join(dir, "ticket.open")
	elsewhere := filepath.Join(t.TempDir(), "secret.json")
	err := errors.Join(
		os.MkdirAll(filepath.Join(here, "folder.json"), 0o755), os.MkdirAll(filepath.Join(dir, "ticket.fly"), 0o755),
		os.WriteFile(elsewhere, []byte(good), 0o644), os.Symlink(elsewhere, filepath.Join(here, "link.json")),
		syscall.Mkfifo(filepath.Join(here, "pipe.json"), 0o644),
	)
	for _, name := range []string{"stray.json", "ticket.open/.hidden.json", "ticket.open/a.json.tmp", "ticket.open/a.json.part", "ticket.open/notes.txt", "ticket.open/x.problem.json"} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), []byte(good), 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
	before := list(dir)
	r := run(t, dir, Dispatcher{rt}, opts)
	drop(t, r.dir, "good.json", good)
	r.await("done/good.json")
	time.Sleep(300 * time.Millisecond)
	r.stop()
	after := list(dir)
	if i := slices.Index(after, "ticket.open/done/good.json"); i >= 0 {
		after = slices.Delete(after, i, i+1)
	}
	if !slices.Equal(before, after) {
		t.Errorf("before %q, after %q", before, after)
	}
	if n := len(events(t, rt.Store(), "ticket")); n != 1 {
		t.Errorf("%d events", n)
	}
	for _, name := range []string{"folder.json", "link.json", "pipe.json", "notes.txt", "x.problem.json", "ticket.fly", "stray.json"} {
		if n := strings.Count(log.String(), "name="+name); n != 1 {
			t.Errorf("the log names %s %d times:\n%s", name, n, log.String())
		}
	}
}

// guarded is a writer for several goroutines.
type guarded struct {
	mu sync.Mutex
	w  io.Writer
}

func (g *guarded) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.w.Write(b)
}

// A folder that is a link is not entered, and a broken one harms nobody.
func TestFolderIsALink(t *testing.T) {
	rt := deedtest.Start(t, tickets)
	dir, other := t.TempDir(), t.TempDir()
	drop(t, other, "a.json", `{"body":{"title":"one"}}`)
	if err := os.Symlink(other, filepath.Join(dir, "ticket.open")); err != nil {
		t.Fatal(err)
	}
	r := run(t, dir, Dispatcher{rt}, quick(t))
	time.Sleep(300 * time.Millisecond)
	if n := len(events(t, rt.Store(), "ticket")); n != 0 || !r.has("a.json") {
		t.Errorf("%d events", n)
	}
}

// A file that is written slowly, in place, is taken when it is whole.
func TestHalfWritten(t *testing.T) {
	rt := deedtest.Start(t, tickets)
	r := run(t, t.TempDir(), Dispatcher{rt}, quick(t))
	file, err := os.Create(filepath.Join(r.dir, "slow.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.SplitAfter(`{"id":"t-1","body":{"title":"written slowly"}}`, `:`) {
		file.WriteString(part)
		time.Sleep(100 * time.Millisecond)
		if _, err := os.Stat(filepath.Join(r.dir, "failed", "slow.json")); err == nil {
			t.Fatal("it was refused")
		}
	}
	file.Close()
	r.await("done/slow.json")
}

// The same name again is the same command; other contents are refused, and
// nothing that was refused before is overwritten.
func TestSameNameAgain(t *testing.T) {
	rt := deedtest.Start(t, tickets)
	r := run(t, t.TempDir(), Dispatcher{rt}, quick(t))
	for range 3 {
		drop(t, r.dir, "a.json", `{"body":{"title":"one"}}`)
		for range 1000 {
			if !r.has("a.json") {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	r.await("done/a.json")
	drop(t, r.dir, "a.json", `{"body":{"title":"two"}}`)
	if p := r.problem("a"); p.Code != "idempotency_mismatch" || !strings.Contains(p.Detail, "use a new name") {
		t.Errorf("%+v", p)
	}
	drop(t, r.dir, "a.json", `{"body":{"title":"three"}}`)
	if p := r.problem("a~2"); p.Code != "idempotency_mismatch" {
		t.Errorf("%+v", p)
	}
	drop(t, r.dir, "b.json", `{"body":{"title":"no"}}`)
	first := r.problem("b")
	if err := os.Rename(filepath.Join(r.dir, "failed/b.json"), filepath.Join(r.dir, "b.json")); err != nil {
		t.Fatal(err)
	}
	if again := r.problem("b"); fmt.Sprint(again) != fmt.Sprint(first) {
		t.Errorf("first %+v, again %+v", first, again)
	}
	if n := len(events(t, rt.Store(), "ticket")); n != 1 {
		t.Errorf("%d events", n)
	}
}

// askerFunc is an asker made of a function.
type askerFunc func(ctx context.Context, call deed.Call, aggregate, id, command string, body []byte) error

func (f askerFunc) Ask(ctx context.Context, call deed.Call, aggregate, id, command string, body []byte) error {
	return f(ctx, call, aggregate, id, command, body)
}

// Temporary trouble moves no file: it is asked again, and done once.
func TestTemporaryTrouble(t *testing.T) {
	for _, trouble := range []error{
		store.ErrUnavailable, deed.ErrOutcomeUnknown, deed.ErrInProgress, deed.Conflict{Stream: "ticket/t"}, context.DeadlineExceeded,
	} {
		for _, lost := range []bool{false, true} { // whether the command was done, and its answer lost
			t.Run(fmt.Sprint(trouble, lost), func(t *testing.T) {
				t.Parallel()
				rt := deedtest.Start(t, tickets)
				var mu sync.Mutex
				tries := map[string]int{}
				r := run(t, t.TempDir(), askerFunc(func(ctx context.Context, call deed.Call, aggregate, id, command string, body []byte) error {
					mu.Lock()
					tries[call.ID]++
					n := tries[call.ID]
					mu.Unlock()
					if n > 2 || lost {
						if err := (Dispatcher{rt}).Ask(ctx, call, aggregate, id, command, body); err != nil || n > 2 {
							return err
						}
					}
					return fmt.Errorf("a test: %w", trouble)
				}), quick(t))
				for i := range 20 {
					drop(t, r.dir, fmt.Sprintf("%d.json", i), `{"body":{"title":"one"}}`)
				}
				for i := range 20 {
					r.await(fmt.Sprintf("done/%d.json", i))
				}
				if n := len(events(t, rt.Store(), "ticket")); n != 20 || r.has("failed") {
					t.Errorf("%d events, files %v", n, list(r.dir))
				}
			})
		}
	}
}

// A file that is replaced while its command is handled is not taken for handled.
func TestReplacedWhileHandled(t *testing.T) {
	rt := deedtest.Start(t, tickets)
	var once sync.Once
	dir := t.TempDir()
	r := run(t, dir, askerFunc(func(ctx context.Context, call deed.Call, aggregate, id, command string, body []byte) error {
		err := Dispatcher{rt}.Ask(ctx, call, aggregate, id, command, body)
		once.Do(func() { drop(t, filepath.Join(dir, "ticket.open"), "a.json", `{"body":{"title":"two"}}`) })
		return err
	}), quick(t))
	drop(t, r.dir, "a.json", `{"body":{"title":"one"}}`)
	if p := r.problem("a"); p.Code != "idempotency_mismatch" {
		t.Errorf("%+v", p)
	}
	if data, err := os.ReadFile(filepath.Join(r.dir, "failed/a.json")); err != nil || !strings.Contains(string(data), "two") {
		t.Errorf("%s, %v", data, err)
	}
}

// Two processes look after one folder.
func TestTwoOnOneFolder(t *testing.T) {
	rt := deedtest.Start(t, tickets)
	dir := t.TempDir()
	// The marks of what is in progress are each runtime's own: two processes are two runtimes.
	other := deedtest.StartOn(t, rt.Store(), tickets)
	a := run(t, dir, Dispatcher{rt}, quick(t))
	b := run(t, dir, Dispatcher{other}, quick(t))
	const n = 2000
	for i := range n {
		title := "one"
		if i%10 == 0 {
			title = "no"
		}
		drop(t, a.dir, fmt.Sprintf("%d.json", i), fmt.Sprintf(`{"id":"t-%d","body":{"title":"%s"}}`, i, title))
	}
	for i := range n {
		if i%10 == 0 {
			a.problem(fmt.Sprint(i))
		} else {
			a.await(fmt.Sprintf("done/%d.json", i))
		}
	}
	got := events(t, rt.Store(), "ticket")
	sum := a.in.Stats().Handled + b.in.Stats().Handled + a.in.Stats().Failed + b.in.Stats().Failed
	t.Logf("one moved %+v, the other %+v", a.in.Stats(), b.in.Stats())
	if len(got) != n*9/10 || sum != n {
		t.Errorf("%d events of %d files; they say they moved %d", len(got), n, sum)
	}
	a.stop()
	b.stop()
	if all := list(a.dir); len(all) != n+n/10 {
		t.Errorf("%d files and problems: %v", len(all), slices.DeleteFunc(all, func(s string) bool { return strings.HasPrefix(s, "done/") }))
	}
}

// Folders may be deleted and come back, and done may be emptied at any time.
func TestFolderIsReplaced(t *testing.T) {
	rt := deedtest.Start(t, tickets)
	r := run(t, t.TempDir(), Dispatcher{rt}, quick(t))
	for i := range 3 {
		if err := errors.Join(os.RemoveAll(r.dir), os.Mkdir(r.dir, 0o755)); err != nil {
			t.Fatal(err)
		}
		drop(t, r.dir, fmt.Sprintf("%d.json", i), `{"body":{"title":"one"}}`)
		r.await(fmt.Sprintf("done/%d.json", i))
	}
}

func TestFoldersMustDiffer(t *testing.T) {
	_, err := New(t.TempDir(), []Command{{"a.b", "c"}, {"a", "b.c"}}, nil, Options{})
	if err == nil || !strings.Contains(err.Error(), "two commands") {
		t.Error(err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{"id":"a","body":{}}`, `{"body":{"x":[1]},"actor":"a","correlation":"c"}`, `[]`, `{`, "\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := decode(data)
		if err != nil {
			if p := problemOf(err); p.Code != httpapi.CodeInvalid || p.Detail == "" {
				t.Errorf("%v is answered as %+v", err, p)
			}
			return
		}
		if !json.Valid(data) || !json.Valid(c.Body) || c.Body[0] != '{' || c.ID != nil && c.id() == "" {
			t.Errorf("%q is read as %+v", data, c)
		}
	})
}
