package bulk

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// Types of columns.
const (
	TypeText    = "string"
	TypeNumber  = "number"
	TypeBoolean = "boolean"
	TypeJSON    = "json"
)

// A column is where a cell goes.
type column struct {
	name string // of the member
	typ  string // "" = as the cell looks
	cell int    // -1 = an object of kids
	kids []*column
}

type csvSource struct {
	csv    *csv.Reader
	guard  *guard
	root   *column
	idCell int // -1 = none
}

// CSV reads records with a header. A dot in a name of the header makes an
// object: "total.amount" is the member amount of the object total. A cell that
// is empty leaves its member out. Types gives columns a type, by their name
// in the header; the others are taken as they look, see [Value]. The column
// idField, unless "", is the entity's id.
//
// It returns an error if the header is no use.
func CSV(r io.Reader, idField string, types map[string]string) (Source, error) {
	text, err := unmarked(r)
	if err != nil {
		return nil, err
	}
	g := &guard{r: text}
	s := &csvSource{csv: csv.NewReader(g), guard: g, root: &column{cell: -1}, idCell: -1}
	header, err := s.csv.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("the file is empty: the first line has to name the columns")
	}
	if err != nil {
		return nil, fmt.Errorf("the header: %w", err)
	}
	for i, name := range header {
		if name == idField && idField != "" {
			if s.idCell >= 0 {
				return nil, fmt.Errorf("the header names the column %s twice", name)
			}
			s.idCell = i
			continue
		}
		if err := s.root.add(strings.Split(name, "."), name, types[name], i); err != nil {
			return nil, err
		}
	}
	if idField != "" && s.idCell < 0 {
		return nil, fmt.Errorf("the header has no column %s; it has %s (columns are separated by commas)", idField, clip(strings.Join(header, ",")))
	}
	for name, typ := range types {
		if !slices.Contains(header, name) {
			return nil, fmt.Errorf("the header has no column %s, which is given a type", name)
		}
		if !slices.Contains([]string{TypeText, TypeNumber, TypeBoolean, TypeJSON}, typ) {
			return nil, fmt.Errorf("the type %q of column %s is none of string, number, boolean and json", typ, name)
		}
	}
	return s, nil
}

func (c *column) add(path []string, full, typ string, cell int) error {
	if path[0] == "" || !utf8.ValidString(path[0]) {
		return fmt.Errorf("the header has the column %q: every part of a name has to be some text", full)
	}
	i := slices.IndexFunc(c.kids, func(k *column) bool { return k.name == path[0] })
	if len(path) == 1 {
		if i >= 0 {
			return fmt.Errorf("the header names the column %s twice, or has columns inside it", full)
		}
		c.kids = append(c.kids, &column{name: path[0], typ: typ, cell: cell})
		return nil
	}
	if i < 0 {
		c.kids = append(c.kids, &column{name: path[0], cell: -1})
		i = len(c.kids) - 1
	} else if c.kids[i].cell >= 0 {
		return fmt.Errorf("the header has the column %s inside another column", full)
	}
	return c.kids[i].add(path[1:], full, typ, cell)
}

// Next implements [Source].
func (s *csvSource) Next() (Line, error) {
	s.guard.n = 0
	record, err := s.csv.Read()
	if errors.Is(err, io.EOF) {
		return Line{}, io.EOF
	}
	l := Line{}
	if bad, ok := errors.AsType[*csv.ParseError](err); ok {
		l.Number, l.Fault = int64(bad.StartLine), bad.Err.Error()
	} else if err != nil {
		return Line{}, err
	} else {
		line, _ := s.csv.FieldPos(0)
		l.Number = int64(line)
	}
	l.Raw, _ = json.Marshal(record)
	if l.Fault != "" {
		return l, nil
	}
	if s.idCell >= 0 {
		if l.ID = record[s.idCell]; l.ID == "" {
			l.Fault = "the column of the id is empty"
			return l, nil
		}
	}
	var body bytes.Buffer
	if _, err := s.root.write(&body, record); err != nil {
		l.Fault = err.Error()
	}
	if l.Body = body.Bytes(); len(l.Body) == 0 {
		l.Body = []byte("{}")
	}
	return l, nil
}

// write writes an object of what the record has for it, or nothing.
func (c *column) write(b *bytes.Buffer, record []string) (some bool, err error) {
	for _, k := range c.kids {
		var member bytes.Buffer
		if k.cell < 0 {
			_, err = k.write(&member, record)
		} else if cell := record[k.cell]; cell != "" {
			var v []byte
			if v, err = Value(k.typ, cell); err == nil {
				member.Write(v)
			}
		}
		if err != nil {
			return false, fmt.Errorf("%s: %w", k.name, err)
		}
		if member.Len() == 0 {
			continue
		}
		if !some {
			b.WriteByte('{')
		} else {
			b.WriteByte(',')
		}
		some = true
		name, _ := json.Marshal(k.name)
		b.Write(name)
		b.WriteByte(':')
		b.Write(member.Bytes())
	}
	if some {
		b.WriteByte('}')
	}
	return some, nil
}

// Value returns the JSON of a cell. Without a type, a cell that is exactly
// true, false, null or a JSON number is that, one that begins with {, [ or "
// and is JSON is that, and any other is text: 007 and 1,5 are text.
func Value(typ, cell string) ([]byte, error) {
	if !utf8.ValidString(cell) {
		return nil, errors.New("is not UTF-8")
	}
	valid := json.Valid([]byte(cell)) && strings.TrimSpace(cell) == cell
	switch typ {
	case TypeText:
		return json.Marshal(cell)
	case TypeNumber:
		if !valid || !number(cell) {
			return nil, fmt.Errorf("%q is not a number", clip(cell))
		}
	case TypeBoolean:
		if cell != "true" && cell != "false" {
			return nil, fmt.Errorf("%q is not true or false", clip(cell))
		}
	case TypeJSON:
		if !valid {
			return nil, fmt.Errorf("%q is not JSON", clip(cell))
		}
	default:
		if !valid {
			return json.Marshal(cell)
		}
	}
	return []byte(cell), nil
}

func number(s string) bool { return s != "" && (s[0] == '-' || '0' <= s[0] && s[0] <= '9') }

func clip(s string) string {
	if len(s) > 40 {
		return strings.ToValidUTF8(s[:40], "") + "..."
	}
	return s
}

func trimSpace(b []byte) []byte { return bytes.TrimSpace(b) }

// A guard ends a record that does not: a quote that is never closed would
// take all of the file into memory.
type guard struct {
	r io.Reader
	n int
}

// Read implements io.Reader.
func (g *guard) Read(b []byte) (int, error) {
	if g.n > 2*MaxLine {
		return 0, fmt.Errorf("a record is longer than %d bytes: is a quote not closed?", MaxLine)
	}
	n, err := g.r.Read(b)
	g.n += n
	return n, err
}
