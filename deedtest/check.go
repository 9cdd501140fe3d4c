package deedtest

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store/mem"
)

var update = flag.Bool("deed.update", false, "write golden files of event types that have none yet, and schemas that are new or have changed as they may")

// Check finds what is wrong with a domain before anything is stored. Call it
// from a test in the package that declares the domain. It fails if
//
//   - the domain contradicts itself,
//   - a type of the package has a method Apply(*S) but no aggregate declares
//     it as an event,
//   - a declared event does not survive being written and read,
//   - testdata/events has no golden file for an event type, or an event of
//     a golden file can no longer be read, or reads differently.
//
// A golden file testdata/events/<aggregate>.<type>.json holds one stored
// event with every field set. Run the tests once with -deed.update to write
// those that are missing; existing ones are never overwritten, because events
// of that shape may be in somebody's log.
func Check(t *testing.T, domain deed.Domain) {
	t.Helper()
	rt, err := deed.New(mem.New(), deed.Config{Domains: []deed.Domain{domain}})
	if err != nil {
		t.Fatal(err)
	}
	declared := map[string]bool{}
	for _, a := range rt.Describe().Aggregates {
		for _, name := range slices.Concat(a.Events, a.Legacy) {
			typ, ok := rt.EventType(a.Name, name)
			if !ok {
				t.Errorf("%s.%s is not readable", a.Name, name)
				continue
			}
			declared[typ.Name()] = true
			checkGolden(t, rt, a.Name, name, typ, slices.Contains(a.Events, name))
		}
	}
	for _, name := range applied(t, ".") {
		if !declared[name] {
			t.Errorf("%s has an Apply method but no aggregate declares it: add it to Events", name)
		}
	}
}

func checkGolden(t *testing.T, rt *deed.Runtime, category, name string, typ reflect.Type, current bool) {
	t.Helper()
	path := filepath.Join("testdata", "events", category+"."+name+".json")
	want, err := os.ReadFile(path)
	if os.IsNotExist(err) && *update && current {
		want = writeGolden(t, rt, path, typ)
	} else if err != nil {
		t.Errorf("%v\nevery event type needs a golden file; run: go test -run %s . -deed.update", err, t.Name())
		return
	}
	event, err := rt.DecodeEvent(category, name, want)
	if err != nil {
		t.Errorf("%s: a stored event can no longer be read: %v", path, err)
		return
	}
	if !current {
		return // read, never written
	}
	got, err := rt.EncodeEvent(event)
	if err != nil {
		t.Errorf("%s: %v", path, err)
		return
	}
	if !sameJSON(got, want) {
		t.Errorf("%s: the stored format changed\nstored:  %s\nnow:     %s\nGive the new shape a new name, and the old name an Upcast.", path, bytes.TrimSpace(want), got)
	}
}

func writeGolden(t *testing.T, rt *deed.Runtime, path string, typ reflect.Type) []byte {
	t.Helper()
	v := reflect.New(typ).Elem()
	fill(v, 0)
	data, err := rt.EncodeEvent(v.Interface())
	if err != nil {
		t.Fatalf("%v does not survive being written: %v", typ, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, data, "", "  "); err != nil {
		t.Fatal(err)
	}
	out.WriteByte('\n')
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// applied returns the names of the types of a package that have a method
// Apply with one pointer argument and no result: events, that is.
func applied(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if name, ok := eventReceiver(d); ok {
				names = append(names, name)
			}
		}
	}
	return names
}

func eventReceiver(d ast.Decl) (string, bool) {
	f, ok := d.(*ast.FuncDecl)
	if !ok || f.Recv == nil || f.Name.Name != "Apply" || f.Type.Results != nil || len(f.Type.Params.List) != 1 {
		return "", false
	}
	if _, ok := f.Type.Params.List[0].Type.(*ast.StarExpr); !ok {
		return "", false
	}
	name, ok := f.Recv.List[0].Type.(*ast.Ident)
	if !ok {
		return "", false
	}
	return name.Name, true
}

func sameJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}
