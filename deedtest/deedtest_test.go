package deedtest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/deed-dev/deed"
)

type door struct{ Open bool }

type (
	opened struct {
		By    string   `json:"by"`
		Notes []string `json:"notes"`
	}
	shut struct{}
)

func (opened) Apply(d *door) { d.Open = true }
func (shut) Apply(d *door)   { d.Open = false }

type open struct {
	By string `json:"by"`
	at int
}

var errOpen = deed.Reason{Code: "open", Text: "it is open already"}

func (c open) Validate() error { return deed.Required("by", c.By) }

func (c open) Stamp(s deed.Stamp) deed.Command[door] {
	c.at = s.Time.Year()
	return c
}

func (c open) Decide(d door) ([]deed.Event[door], error) {
	if d.Open {
		return nil, errOpen
	}
	return []deed.Event[door]{opened{By: c.By}}, nil
}

var doors = deed.Aggregate[door]{
	Name:     "door",
	Events:   map[string]deed.Event[door]{"opened": opened{}, "shut": shut{}},
	Commands: map[string]deed.Command[door]{"open": open{}},
}

var domain = deed.Domain{Name: "doors", Parts: []deed.Part{doors}}

func TestRun(t *testing.T) {
	type given = []deed.Event[door]
	Run(t, []Case[door]{
		{Name: "open", When: open{By: "ann"}, Then: given{opened{By: "ann"}}},
		{Name: "again", Given: given{shut{}, opened{}}, When: open{By: "ann"}, Err: errOpen},
		{Name: "nobody", When: open{}, Err: ErrInvalid},
	})
}

func TestCheck(t *testing.T) {
	t.Chdir(t.TempDir())
	*update = true
	Check(t, domain)
	*update = false
	Check(t, domain)
	golden, err := os.ReadFile("testdata/events/door.opened.json")
	if want := "{\n  \"by\": \"text\",\n  \"notes\": [\n    \"text\"\n  ]\n}\n"; err != nil || string(golden) != want {
		t.Errorf("the golden file is %s, %v", golden, err)
	}
}

func TestCheckSchemas(t *testing.T) {
	t.Chdir(t.TempDir())
	*update = true
	CheckSchemas(t, domain)
	*update = false
	CheckSchemas(t, domain)
	recorded, err := os.ReadFile("testdata/schemas/events/door.opened.json")
	if err != nil || !strings.Contains(string(recorded), `"notes"`) {
		t.Errorf("the schema is %s, %v", recorded, err)
	}
}

// Each of these is wrong, and must fail when it is run.
var wrong = map[string]struct {
	test func(t *testing.T)
	says string
}{
	"events": {func(t *testing.T) {
		Run(t, []Case[door]{{Name: "x", When: open{By: "ann"}, Then: []deed.Event[door]{opened{By: "bob"}}}})
	}, "{By:bob"},
	"too many events": {func(t *testing.T) { Run(t, []Case[door]{{Name: "x", When: open{By: "ann"}}}) }, "want  []"},
	"error":           {func(t *testing.T) { Run(t, []Case[door]{{Name: "x", When: open{}}}) }, "want  <nil>"},
	"other error": {func(t *testing.T) {
		Run(t, []Case[door]{{Name: "x", When: open{}, Err: errors.New("other")}})
	}, "want  other"},
	"no golden file": {func(t *testing.T) { Check(t, domain) }, "-deed.update"},
	"changed format": {func(t *testing.T) {
		golden(t, "door.opened.json", `{"who":"ann","notes":["text"]}`)
		golden(t, "door.shut.json", `{}`)
		Check(t, domain)
	}, "Upcast"},
	"unreadable": {func(t *testing.T) {
		golden(t, "door.opened.json", `{"by":1}`)
		golden(t, "door.shut.json", `{}`)
		Check(t, domain)
	}, "can no longer be read"},
	"no schema": {func(t *testing.T) { CheckSchemas(t, domain) }, "event door.opened is new"},
	"changed schema": {func(t *testing.T) {
		recorded(t, "door.opened", `{"type":"object","properties":{"by":{"type":"integer"}},"required":["by"]}`)
		CheckSchemas(t, domain)
	}, "event door.opened, field by: is string, and was integer. Give the new shape a new name, and opened an Upcast."},
	"a name that is gone": {func(t *testing.T) {
		*update = true
		recorded(t, "door.broken", `{"type":"object"}`)
		CheckSchemas(t, domain)
	}, "event door.broken: is gone"},
	"undeclared event": {func(t *testing.T) {
		*update = true
		if err := os.WriteFile("door.go", []byte("package doors\n\nfunc (Locked) Apply(d *Door) {}\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		Check(t, domain)
	}, "Locked has an Apply method"},
	"contradiction": {func(t *testing.T) { Check(t, deed.Domain{Name: "doors", Parts: []deed.Part{doors, doors}}) }, "door"},
}

func golden(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll("testdata/events", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("testdata", "events", name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func recorded(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll("testdata/schemas/events", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("testdata", "schemas", "events", name+".json"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

const wrongEnv = "DEEDTEST_WRONG"

func TestWrong(t *testing.T) {
	if name := os.Getenv(wrongEnv); name != "" {
		t.Chdir(t.TempDir())
		wrong[name].test(t)
		return
	}
	for name, w := range wrong {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWrong$")
			cmd.Env = append(os.Environ(), wrongEnv+"="+name)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL") || !strings.Contains(string(out), w.says) {
				t.Errorf("%v, want a failure that says %q:\n%s", err, w.says, out)
			}
		})
	}
}
