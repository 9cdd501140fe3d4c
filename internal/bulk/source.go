// Package bulk turns the lines of a file into commands, asks them side by side,
// and writes down what became of each. The command's id is made out of the line,
// so that asking the same file again does nothing twice.
package bulk

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/deed-dev/deed/internal/textfile"
	"github.com/deed-dev/deed/internal/wire"
)

// MaxLine is how long a line may be, in bytes.
const MaxLine = 1 << 20

// A Line is one command of a file.
type Line struct {
	Number int64  // from 1; of a CSV record over several lines, the first
	ID     string // of the entity; "" = the server makes one
	Body   []byte // a JSON object
	Raw    []byte // what the line says, for the command's id
	Fault  string // why the line is no command; "" = it is one
}

// A Source yields lines, then io.EOF. Any other error is the end too.
type Source interface{ Next() (Line, error) }

type ndjson struct {
	r       *bufio.Reader
	idField string
	number  int64
}

// NDJSON reads a JSON object a line. The member idField, unless "", is taken
// out of each and is the entity's id. Empty lines are passed over.
//
// It returns an error if the file is no use.
func NDJSON(r io.Reader, idField string) (Source, error) {
	text, err := unmarked(r)
	if err != nil {
		return nil, err
	}
	return &ndjson{r: text, idField: idField}, nil
}

// unmarked reads a file behind the mark that it may begin with.
func unmarked(r io.Reader) (*bufio.Reader, error) {
	text := bufio.NewReaderSize(r, MaxLine+2)
	begin, err := text.Peek(3)
	if err != nil && !errors.Is(err, io.EOF) {
		return text, err
	}
	n, err := textfile.Mark(begin)
	text.Discard(n) // it has been read
	return text, err
}

// Next implements [Source].
func (s *ndjson) Next() (Line, error) {
	for {
		text, err := s.r.ReadSlice('\n')
		if len(text) == 0 && err != nil {
			return Line{}, err
		}
		s.number++
		if errors.Is(err, bufio.ErrBufferFull) {
			l := Line{Number: s.number, Raw: append([]byte(nil), text...), Fault: fmt.Sprintf("the line is longer than %d bytes", MaxLine)}
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = s.r.ReadSlice('\n')
			}
			return l, nil
		}
		if text = trimSpace(text); len(text) > 0 {
			return s.line(append([]byte(nil), text...)), nil
		}
	}
}

func (s *ndjson) line(text []byte) Line {
	l := Line{Number: s.number, Body: text, Raw: text}
	switch {
	case !json.Valid(text):
		l.Fault = "the line is not JSON"
	case text[0] != '{':
		l.Fault = "the line is not a JSON object"
	case s.idField != "":
		l.takeID(s.idField)
	}
	return l
}

// takeID moves a member of the body to where the entity's id is.
func (l *Line) takeID(field string) {
	var members map[string]json.RawMessage
	if err := wire.UnmarshalStrict(l.Body, &members); err != nil {
		l.Fault = err.Error()
		return
	}
	raw, ok := members[field]
	if !ok {
		l.Fault = "the line has no member " + field
		return
	}
	if err := json.Unmarshal(raw, &l.ID); err != nil {
		l.ID = string(raw) // a number, perhaps; the server judges the rest
	}
	if l.ID == "" {
		l.Fault = "the member " + field + " is empty"
	}
	delete(members, field)
	body, err := json.Marshal(members)
	if err != nil {
		l.Fault = err.Error()
	}
	l.Body = body
}
