package farm

import (
	"fmt"

	"github.com/deed-dev/deed"
)

// Field is what a decision about a field depends on.
type Field struct {
	Name string `json:"name"`
	Collateral
}

// What can happen to a field.
type (
	FieldRegistered struct {
		Name string `json:"name"`
		Area int64  `json:"area_m2"`
	}
	FieldPledged  struct{ Pledge }
	FieldReleased struct{ Pledge }
)

func (e FieldRegistered) Apply(f *Field) { f.Name = e.Name }
func (e FieldPledged) Apply(f *Field)    { f.Loan = e.Loan }
func (e FieldReleased) Apply(f *Field)   { f.Loan = "" }

// What can be asked of a field.
type (
	RegisterField struct {
		Name string `json:"name"`
		Area int64  `json:"area_m2"`
	}

	pledgeField  struct{ Pledge }
	releaseField struct{ Pledge }
)

func (c RegisterField) Validate() error {
	if c.Area < 1 {
		return deed.Invalid{Field: "area_m2", Detail: "must be at least 1"}
	}
	return deed.Required("name", c.Name)
}

func (c RegisterField) Decide(f Field) ([]deed.Event[Field], error) {
	if f.Name != "" {
		return nil, deed.ErrExists
	}
	return []deed.Event[Field]{FieldRegistered(c)}, nil
}

func (c pledgeField) Decide(f Field) ([]deed.Event[Field], error) {
	if f.Name == "" {
		return nil, deed.ErrNotFound
	}
	if err := f.mustBeFree(); err != nil {
		return nil, err
	}
	return []deed.Event[Field]{FieldPledged(c)}, nil
}

func (c releaseField) Decide(f Field) ([]deed.Event[Field], error) {
	if f.Loan != c.Loan {
		return nil, nil
	}
	return []deed.Event[Field]{FieldReleased(c)}, nil
}

// Fields is the vocabulary of fields, as stored and as called.
var Fields = deed.Aggregate[Field]{
	Name:     "field",
	Doc:      "A field of the farm.",
	Events:   map[string]deed.Event[Field]{"registered": FieldRegistered{}, "pledged": FieldPledged{}, "released": FieldReleased{}},
	Commands: map[string]deed.Command[Field]{"register": RegisterField{}},
}

// Barn is what a decision about a barn depends on.
type Barn struct {
	Name string `json:"name"`
}

// BarnRegistered is the one thing that happens to a barn.
type BarnRegistered struct {
	Name   string `json:"name"`
	Stalls int    `json:"stalls"`
}

func (e BarnRegistered) Apply(b *Barn) { b.Name = e.Name }

// RegisterBarn makes a barn known.
type RegisterBarn struct {
	Name   string `json:"name"`
	Stalls int    `json:"stalls"`
}

const maxStalls = 10_000

func (c RegisterBarn) Validate() error {
	if c.Stalls < 0 || c.Stalls > maxStalls {
		return deed.Invalid{Field: "stalls", Detail: fmt.Sprintf("must be from 0 to %d", maxStalls)}
	}
	return deed.Required("name", c.Name)
}

func (c RegisterBarn) Decide(b Barn) ([]deed.Event[Barn], error) {
	if b.Name != "" {
		return nil, deed.ErrExists
	}
	return []deed.Event[Barn]{BarnRegistered(c)}, nil
}

// Barns is the vocabulary of barns, as stored and as called.
var Barns = deed.Aggregate[Barn]{
	Name:     "barn",
	Doc:      "A barn of the farm.",
	Events:   map[string]deed.Event[Barn]{"registered": BarnRegistered{}},
	Commands: map[string]deed.Command[Barn]{"register": RegisterBarn{}},
}
