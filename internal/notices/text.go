// Package notices delivers public events to people and to files: kinds of
// targets that send mails by SMTP, and that write lines and files of a folder.
package notices

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/deed-dev/deed"
)

// maxText bounds a template.
const maxText = 10_000

// A template is a text with places that an event fills in: {type}, {aggregate}
// or another attribute, {data.customer.email} or another member of its data. To
// have a brace, write it twice.
type template string

// check reports what is wrong with a template.
func (t template) check() error {
	if len(t) > maxText {
		return fmt.Errorf("is longer than %d characters", maxText)
	}
	_, err := t.fill(func(string) (string, error) { return "", nil })
	return err
}

// fill puts in what value says of each place.
func (t template) fill(value func(place string) (string, error)) (string, error) {
	var b strings.Builder
	for rest := string(t); rest != ""; {
		i := strings.IndexAny(rest, "{}")
		if i < 0 {
			b.WriteString(rest)
			break
		}
		b.WriteString(rest[:i])
		brace := rest[i]
		rest = rest[i+1:]
		if strings.HasPrefix(rest, string(brace)) {
			b.WriteByte(brace)
			rest = rest[1:]
			continue
		}
		place, after, closed := strings.Cut(rest, "}")
		if brace == '}' || !closed || !isPlace(place) {
			return "", errors.New("has a brace that is not of a place like {type} or {data.email}: to have a brace, write it twice")
		}
		v, err := value(place)
		if err != nil {
			return "", err
		}
		b.WriteString(v)
		rest = after
	}
	return b.String(), nil
}

func isPlace(place string) bool {
	if path, ofData := strings.CutPrefix(place, "data."); ofData {
		return path != ""
	}
	return attributes[place]
}

// attributes are those of events that can be filled in.
var attributes = map[string]bool{
	"id": true, "type": true, "source": true, "subject": true, "time": true, "aggregate": true, "correlationid": true, "sequence": true, "partitionkey": true,
}

// of is the text for an event.
func (t template) of(e *deed.CloudEvent) (string, error) {
	var data any
	if err := json.Unmarshal(e.Data, &data); err != nil {
		return "", fmt.Errorf("the data of %s are no JSON: %w", e.ID, err)
	}
	return t.fill(func(place string) (string, error) {
		path, ofData := strings.CutPrefix(place, "data.")
		if !ofData {
			return e.Attribute(place), nil
		}
		v := data
		for name := range strings.SplitSeq(path, ".") {
			m, _ := v.(map[string]any)
			v = m[name]
		}
		switch v := v.(type) {
		case nil:
			return "", fmt.Errorf("%s has no {%s}", e.ID, place)
		case string:
			return v, nil
		}
		text, err := json.Marshal(v)
		return string(text), err
	})
}
