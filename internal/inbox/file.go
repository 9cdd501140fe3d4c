package inbox

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/textfile"
	"github.com/deed-dev/deed/internal/wire"
)

const suffix = ".json"

// hidden reports whether a name says that a file is not meant for us, or not yet.
func hidden(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".tmp") || strings.HasSuffix(name, ".part")
}

// content is what a file says.
type content struct {
	ID          *string         `json:"id"` // of the entity; left out = one is made out of the command's id
	Body        json.RawMessage `json:"body"`
	Actor       string          `json:"actor"`
	Correlation string          `json:"correlation"`
}

// decode reads a file. Its error is a [deed.Invalid].
func decode(data []byte) (content, error) {
	var c content
	if _, err := textfile.Mark(data); err != nil {
		return c, deed.Invalid{Detail: err.Error()}
	}
	if err := wire.UnmarshalStrict(data, &c); err != nil {
		if f, ok := errors.AsType[*wire.FieldError](err); ok {
			return c, deed.Invalid{Field: f.Field, Detail: f.Detail}
		}
		return c, deed.Invalid{Detail: err.Error()}
	}
	switch {
	case c.Body == nil:
		return c, deed.Invalid{Field: "body", Detail: `is missing: a file has the form {"id":"...","body":{...},"actor":"...","correlation":"..."}, of which only body is a must`}
	case c.Body[0] != '{':
		return c, deed.Invalid{Field: "body", Detail: "must be a JSON object"}
	case c.ID != nil && *c.ID == "":
		return c, deed.Invalid{Field: "id", Detail: "is empty: leave it out to have one made"}
	}
	return c, nil
}

func (c content) id() string {
	if c.ID == nil {
		return ""
	}
	return *c.ID
}
