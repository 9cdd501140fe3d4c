// Package contract keeps the formats of a program: the schemas of the events
// that it stores and of those that it publishes, in a folder, one file for each
// name. It says which changes of the program break what is stored, or what
// others rely on.
package contract

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/asyncapi"
	"github.com/deed-dev/deed/internal/schema"
)

// The folders of schemas, and how they are called in findings.
const (
	eventsFolder = "events"
	publicFolder = "public"
)

// A Contract is the formats of a program.
type Contract struct {
	events  map[string]*schema.Schema // by name, for example account.opened
	legacy  map[string]*schema.Schema // old names: how their events are read
	upcasts map[string]bool           // old names whose events had another shape
	public  map[string]*schema.Schema // by type
}

// Of returns the formats of a runtime, which need not run.
func Of(rt *deed.Runtime) Contract {
	info := rt.Describe()
	c := Contract{events: map[string]*schema.Schema{}, legacy: map[string]*schema.Schema{}, upcasts: map[string]bool{}, public: map[string]*schema.Schema{}}
	for _, a := range info.Aggregates {
		for _, name := range slices.Concat(a.Events, a.Legacy) {
			full := a.Name + "." + name
			typ, known := rt.EventType(a.Name, name)
			_, upcast := a.Upcasts[name]
			switch {
			case !known:
			case upcast:
				c.upcasts[full] = true
			case slices.Contains(a.Events, name):
				c.events[full] = alone(full, func(s *schema.Set) { s.Add(full, typ) })
			default:
				c.legacy[full] = alone(full, func(s *schema.Set) { s.Add(full, typ) })
			}
		}
	}
	for _, t := range info.Topics {
		for _, p := range t.Types {
			c.public[p.Type] = alone(p.Type, func(s *schema.Set) { asyncapi.Data(s, p, info) })
		}
	}
	return c
}

// alone is a schema with all that it refers to.
func alone(name string, add func(*schema.Set)) *schema.Schema {
	set := schema.NewSet("#/$defs/")
	add(set)
	root := *set.Schemas[name]
	root.Dialect, root.Title, root.Defs = schema.Dialect, name, set.Schemas
	text, err := schema.Text(&root)
	if err != nil || bytes.Count(text, []byte(`"#/$defs/`+name+`"`)) == 0 {
		delete(root.Defs, name) // it does not contain itself
	}
	return &root
}

// A Report is what has changed since formats were recorded.
type Report struct {
	Broken     []Finding    `json:"broken"`
	Unrecorded []Unrecorded `json:"unrecorded"` // what may be, and is to be recorded
}

// A Finding is a change that breaks what is stored, or what others rely on.
type Finding struct {
	What string `json:"what"` // "event" or "public event"
	Name string `json:"name"`
	schema.Change
	Do   string `json:"do"`   // what to do instead
	File string `json:"file"` // where it was recorded
}

func (f Finding) String() string {
	at := f.What + " " + f.Name
	if f.Field != "" {
		at += ", field " + f.Field
	}
	return at + ": " + f.Text + ". " + f.Do + "."
}

// An Unrecorded format is one that is new, or is not as it was recorded.
type Unrecorded struct {
	What string `json:"what"`
	Name string `json:"name"`
	New  bool   `json:"new"`
	File string `json:"file"`

	schema *schema.Schema
}

func (u Unrecorded) String() string {
	if u.New {
		return u.What + " " + u.Name + " is new"
	}
	return u.What + " " + u.Name + " has changed as it may"
}

// Compare holds the formats of a program against those that a folder has.
func (c Contract) Compare(dir string) (Report, error) {
	r := Report{Broken: []Finding{}, Unrecorded: []Unrecorded{}}
	events, err := recorded(filepath.Join(dir, eventsFolder))
	if err != nil {
		return r, err
	}
	public, err := recorded(filepath.Join(dir, publicFolder))
	if err != nil {
		return r, err
	}
	for _, name := range slices.Sorted(maps.Keys(events)) {
		f := Finding{What: "event", Name: name, File: file(dir, eventsFolder, name)}
		if c.upcasts[name] {
			continue
		}
		is := c.events[name]
		if is == nil {
			is = c.legacy[name]
		}
		r.changes(f, events[name], is, schema.Stored, storedAdvice)
	}
	for _, name := range slices.Sorted(maps.Keys(public)) {
		f := Finding{What: "public event", Name: name, File: file(dir, publicFolder, name)}
		r.changes(f, public[name], c.public[name], schema.Public, publicAdvice)
	}
	return r, errors.Join(r.unrecorded(dir, "event", eventsFolder, c.events, events), r.unrecorded(dir, "public event", publicFolder, c.public, public))
}

// changes adds what breaks a promise.
func (r *Report) changes(f Finding, was, is *schema.Schema, p schema.Promise, advice func(Finding) string) {
	all := []schema.Change{{Kind: schema.Gone, Text: "is gone"}}
	if is != nil {
		all = schema.Breaks(was, is, p)
	}
	for _, f.Change = range all {
		f.Do = advice(f)
		r.Broken = append(r.Broken, f)
	}
}

// unrecorded adds what is not in a folder as it is now.
func (r *Report) unrecorded(dir, what, folder string, now, then map[string]*schema.Schema) error {
	for _, name := range slices.Sorted(maps.Keys(now)) {
		is, err := schema.Text(now[name])
		if err != nil {
			return err
		}
		var was []byte
		if then[name] != nil {
			if was, err = schema.Text(then[name]); err != nil {
				return err
			}
		}
		if !bytes.Equal(was, is) && !r.broken(what, name) {
			r.Unrecorded = append(r.Unrecorded, Unrecorded{what, name, was == nil, file(dir, folder, name), now[name]})
		}
	}
	return nil
}

func (r *Report) broken(what, name string) bool {
	return slices.ContainsFunc(r.Broken, func(f Finding) bool { return f.What == what && f.Name == name })
}

// Record writes what is not recorded yet. It overwrites nothing that is broken.
func (r Report) Record() error {
	for _, u := range r.Unrecorded {
		text, err := schema.Text(u.schema)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(u.File), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(u.File, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func file(dir, folder, name string) string { return filepath.Join(dir, folder, name+".json") }

// recorded reads the schemas in a folder, which need not be there.
func recorded(dir string) (map[string]*schema.Schema, error) {
	all := map[string]*schema.Schema{}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue
		}
		path := filepath.Join(dir, e.Name())
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		all[name] = &schema.Schema{}
		if err := json.Unmarshal(text, all[name]); err != nil {
			return nil, fmt.Errorf("%s is no schema: %w", path, err)
		}
	}
	return all, nil
}

// storedAdvice says what to do about a change of stored events.
func storedAdvice(f Finding) string {
	aggregate, name, _ := strings.Cut(f.Name, ".")
	upcast := fmt.Sprintf("give the new shape a new name, and %s an Upcast", name)
	switch f.Kind {
	case schema.Gone:
		return fmt.Sprintf("Events of that name may be stored: name it in Legacy of %s if the shape is the same, in Upcasts if it is not", aggregate)
	case schema.Added, schema.Required:
		return "Tag it omitzero, or " + upcast
	case schema.Removed:
		return "Keep it, or " + upcast
	}
	return upperFirst(upcast)
}

// publicAdvice says what to do about a change of public events.
func publicAdvice(f Finding) string {
	beside := fmt.Sprintf("publish another type, %s, beside it", next(f.Name))
	switch f.Kind {
	case schema.Gone:
		return "Publish it again, beside what comes in its place; when nobody reads it any more, delete " + f.File
	case schema.Added, schema.Required:
		return "Tag it omitzero, or " + beside
	case schema.Removed, schema.Optional:
		return "Keep it, or " + beside
	}
	return upperFirst(beside)
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// next is the type of public events that comes after another one.
func next(typ string) string {
	name, version, ok := cutLast(typ, ".v")
	n, err := strconv.Atoi(version)
	if !ok || err != nil {
		return typ + ".v2"
	}
	return name + ".v" + strconv.Itoa(n+1)
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
