package httpapi

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
)

// Bounds of pages and waits.
const (
	defaultPage = 100
	maxPage     = 1000
	defaultWait = 2 * time.Second
	maxWait     = 30 * time.Second
)

// query returns the parameters of a request. One that the route does not know
// is refused: it is a typing error, and ignoring it would answer another
// question.
func query(r *http.Request, known ...string) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, deed.Invalid{Detail: "the query string is malformed"}
	}
	for name, values := range q {
		if !slices.Contains(known, name) {
			return nil, deed.Invalid{Field: short(name), Detail: "is not a parameter of this route, which has " + cmp.Or(strings.Join(known, ", "), "none")}
		}
		if len(values) > 1 && name != "where" {
			return nil, deed.Invalid{Field: name, Detail: "is given twice"}
		}
	}
	return q, nil
}

func short(s string) string {
	if len(s) > 60 {
		return strings.ToValidUTF8(s[:60], "") + "..."
	}
	return strings.ToValidUTF8(s, "?")
}

func uintParam(q url.Values, name string) (uint64, error) {
	s := q.Get(name)
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 0, deed.Invalid{Field: name, Detail: "must be a whole number from 0 to 2^63-1"}
	}
	return n, nil
}

func limitParam(q url.Values) (int, error) {
	n, err := uintParam(q, "limit")
	if err != nil || n > maxPage || n == 0 && q.Has("limit") {
		return 0, deed.Invalid{Field: "limit", Detail: fmt.Sprintf("must be from 1 to %d", maxPage)}
	}
	if n == 0 {
		return defaultPage, nil
	}
	return int(n), nil
}

// oneOf refuses a value of a parameter that is none of those there are; "" is
// none at all.
func oneOf[S ~string](field, value string, all []S) error {
	if value == "" || slices.Contains(all, S(value)) {
		return nil
	}
	return deed.Invalid{Field: field, Detail: fmt.Sprintf("is %q: use one of %s", short(value), list(all))}
}

func list[S ~string](all []S) string {
	var names []string
	for _, s := range all {
		names = append(names, string(s))
	}
	return strings.Join(names, ", ")
}

func boolParam(q url.Values, name string) (bool, error) {
	switch q.Get(name) {
	case "":
		if q.Has(name) {
			return true, nil
		}
		return false, nil
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	}
	return false, deed.Invalid{Field: name, Detail: "must be true or false"}
}

func cursorParam(q url.Values, name string) (store.Cursor, error) {
	c, err := store.ParseCursor(q.Get(name))
	if err != nil {
		return "", deed.Invalid{Field: name, Detail: "is not a position: use one that an answer gave you"}
	}
	return c, nil
}

func listParam(q url.Values, name string) []string {
	if q.Get(name) == "" {
		return nil
	}
	return strings.Split(q.Get(name), ",")
}

// reader returns what a request wants to read from: now, or the past given by
// at, position or version.
func (a *api) reader(q url.Values) (deed.Reader, error) {
	given := 0
	for _, name := range []string{"at", "position", "version", "effective"} {
		if q.Get(name) != "" {
			given++
		}
	}
	if given > 1 {
		return nil, deed.Invalid{Detail: "give one of at, position, version and effective"}
	}
	switch {
	case q.Get("at") != "":
		t, err := timeParam(q, "at")
		return a.rt.AsOf(t), err
	case q.Get("effective") != "":
		t, err := timeParam(q, "effective")
		return a.rt.EffectiveAt(t), err
	case q.Get("position") != "":
		c, err := cursorParam(q, "position")
		return a.rt.AtPosition(c), err
	case q.Get("version") != "":
		v, err := uintParam(q, "version")
		if err == nil && v == 0 {
			err = deed.Invalid{Field: "version", Detail: "must be from 1"}
		}
		return a.rt.AtVersion(v), err
	}
	return a.rt, nil
}

func timeParam(q url.Values, name string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, q.Get(name))
	if err != nil {
		return t, deed.Invalid{Field: name, Detail: "must be a time like 2026-02-03T04:05:06Z"}
	}
	return t, nil
}

// conditions reads where parameters: a field, an operator and a value, as in
// status=Draft or total.amount>=1000.
func (a *api) conditions(view string, where []string) ([]store.Cond, error) {
	if len(where) > 20 {
		return nil, deed.Invalid{Field: "where", Detail: "at most 20 conditions"}
	}
	var out []store.Cond
	for _, w := range where {
		i := strings.IndexAny(w, "=!<>")
		if i < 1 {
			return nil, deed.Invalid{Field: "where", Detail: "has the form field=value; operators are = != < <= > >="}
		}
		c := store.Cond{Field: w[:i], Op: w[i : i+1]}
		value := w[i+1:]
		if strings.HasPrefix(value, "=") {
			c.Op, value = c.Op+"=", value[1:]
		}
		var err error
		if c.Value, err = typed(a.rt.ViewField(view, c.Field), value); err != nil {
			return nil, deed.Invalid{Field: short(c.Field), Detail: err.Error()}
		}
		out = append(out, c)
	}
	return out, nil
}

// typed reads a value of a field of a known type; null is null everywhere.
func typed(kind, value string) (any, error) {
	if value == "null" {
		return nil, nil
	}
	switch kind {
	case "number":
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			return n, nil
		}
		f, err := strconv.ParseFloat(value, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, fmt.Errorf("is compared with %q, which is not a number", short(value))
		}
		return f, nil
	case "boolean":
		b, err := strconv.ParseBool(value)
		if err != nil {
			return nil, fmt.Errorf("is compared with %q: use true or false", short(value))
		}
		return b, nil
	}
	if strings.ToValidUTF8(value, "") != value || strings.ContainsRune(value, 0) {
		return nil, fmt.Errorf("is compared with something that is not text")
	}
	return value, nil
}

// fingerprint tells queries apart whose pages do not fit together.
func fingerprint(view string, q url.Values) string {
	h := fnv.New32a()
	fmt.Fprintf(h, "%q %q %q", view, q.Get("sort"), q["where"])
	if search := q.Get("search"); search != "" {
		fmt.Fprintf(h, " %q", search)
	}
	return strconv.FormatUint(uint64(h.Sum32()), 36)
}

// A mark is where a page ends, as an opaque token. It is good for the query of
// the page only.
func encodeMark(query string, m store.Mark) string {
	b, err := json.Marshal([]any{m.Value, m.Key, query})
	if err != nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

var errMark = deed.Invalid{Field: "after", Detail: "is not a mark of this query: use the one that a page gave you as next, with the same view, where, search and sort"}

func decodeMark(query, s string) (*store.Mark, error) {
	if s == "" {
		return nil, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(s) > 4096 {
		return nil, errMark
	}
	var parts []json.RawMessage
	if err := json.Unmarshal(b, &parts); err != nil || len(parts) != 3 {
		return nil, errMark
	}
	var m store.Mark
	if err := json.Unmarshal(parts[1], &m.Key); err != nil || m.Key == "" {
		return nil, errMark
	}
	var of string
	if err := json.Unmarshal(parts[2], &of); err != nil || of != query {
		return nil, errMark
	}
	wrapped := append(append([]byte(`{"v":`), parts[0]...), '}')
	m.Value = store.FieldOf(wrapped, "v")
	if m.Value == nil && string(parts[0]) != "null" {
		return nil, errMark
	}
	return &m, nil
}
