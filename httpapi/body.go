package httpapi

import (
	"bytes"
	"errors"
	"net/http"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/wire"
)

// decode reads the body of a request as JSON. No body at all is an empty
// object.
func (a *api) decode(w http.ResponseWriter, r *http.Request, into any) error {
	body, err := a.body(w, r)
	if err != nil {
		return err
	}
	if body = bytes.TrimSpace(body); len(body) == 0 {
		return nil
	}
	if body[0] != '{' {
		return deed.Invalid{Detail: "the body must be a JSON object"}
	}
	err = wire.UnmarshalStrict(body, into)
	if f, ok := errors.AsType[*wire.FieldError](err); ok {
		return deed.Invalid{Field: f.Field, Detail: f.Detail}
	}
	return err
}
