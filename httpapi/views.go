package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
)

// A Document is a document of a view.
type Document struct {
	Key   string  `json:"key"`
	Value rawJSON `json:"value"`
}

// A DocumentPage is some documents of a view.
type DocumentPage struct {
	View      string     `json:"view"`
	Documents []Document `json:"documents"`
	Count     *int       `json:"count,omitempty"` // if it was asked for: of all that satisfy the conditions, on whatever page
	Next      string     `json:"next,omitempty"`  // pass as after to go on; missing = there are no more
}

var viewParams = []string{"at", "position", "effective", "min-position", "wait"}

// document answers one document of a view.
func (a *api) document(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r, append(viewParams, "fields")...)
	if err != nil {
		return err
	}
	view, key := r.PathValue("view"), r.PathValue("key")
	fields, err := a.selected(view, q)
	if err != nil {
		return err
	}
	from, err := a.viewReader(w, r, view, q)
	if err != nil {
		return err
	}
	data, err := a.rt.Document(r.Context(), from, view, key)
	if errors.Is(err, deed.ErrNotFound) {
		return problem(http.StatusNotFound, CodeNotFound, "the view "+view+" has no document "+short(key))
	}
	if err != nil {
		return err
	}
	value, err := fields.of(data)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, Document{key, value})
}

// documents answers a page of documents.
func (a *api) documents(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r, append(viewParams, "where", "search", "sort", "limit", "after", "fields", "count")...)
	if err != nil {
		return err
	}
	view := r.PathValue("view")
	fields, err := a.selected(view, q)
	if err != nil {
		return err
	}
	counted, err := boolParam(q, "count")
	if err != nil {
		return err
	}
	rows, next, err := a.page(w, r, view, q)
	if err != nil {
		return err
	}
	page := DocumentPage{View: view, Documents: []Document{}, Next: next}
	for _, row := range rows {
		value, err := fields.of(row.Value)
		if err != nil {
			return err
		}
		page.Documents = append(page.Documents, Document{row.Key, value})
	}
	if counted {
		if page.Count, err = a.count(r, view, q); err != nil {
			return err
		}
	}
	return answer(w, http.StatusOK, page)
}

// page reads a page of documents, and where to go on.
func (a *api) page(w http.ResponseWriter, r *http.Request, view string, q url.Values) ([]deed.Row[json.RawMessage], string, error) {
	sq, err := a.viewQuery(view, q)
	if err != nil {
		return nil, "", err
	}
	from, err := a.viewReader(w, r, view, q)
	if err != nil {
		return nil, "", err
	}
	limit := sq.Limit
	sq.Limit++ // one more tells whether there are more
	rows, err := a.rt.Documents(r.Context(), from, view, sq)
	if err != nil || len(rows) <= limit {
		return rows, "", err
	}
	return rows[:limit], markAt(view, q, rows[limit-1]), nil
}

// documentsOf are the documents of one of deed's own views.
func documentsOf[T any](view string, rows []deed.Row[json.RawMessage]) ([]T, error) {
	all := make([]T, 0, len(rows))
	for _, row := range rows {
		d, err := documentOf[T](view, row)
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

func documentOf[T any](view string, row deed.Row[json.RawMessage]) (d T, err error) {
	if err := json.Unmarshal(row.Value, &d); err != nil {
		return d, fmt.Errorf("%w: view %s/%s: %w", store.ErrCorrupt, view, row.Key, err)
	}
	return d, nil
}

// count counts the documents of all pages.
func (a *api) count(r *http.Request, view string, q url.Values) (*int, error) {
	sq, err := a.viewQuery(view, q)
	if err != nil {
		return nil, err
	}
	from, err := a.reader(q)
	if err != nil {
		return nil, err
	}
	n, err := a.rt.CountDocuments(r.Context(), from, view, sq)
	return &n, err
}

// markAt is where to go on after a row of what q asks of a view.
func markAt(view string, q url.Values, last deed.Row[json.RawMessage]) string {
	mark := store.Mark{Key: last.Key}
	if sort := strings.TrimPrefix(q.Get("sort"), "-"); sort != "" {
		mark.Value = store.FieldOf(last.Value, sort)
	}
	return encodeMark(fingerprint(view, q), mark)
}

func (a *api) viewQuery(view string, q url.Values) (store.Query, error) {
	return a.documentQuery(view, view, q)
}

// documentQuery is what a request asks of the documents of a view; query is the
// name by which its pages know each other.
func (a *api) documentQuery(view, query string, q url.Values) (store.Query, error) {
	limit, err := limitParam(q)
	if err != nil {
		return store.Query{}, err
	}
	if q.Has("sort") && strings.TrimPrefix(q.Get("sort"), "-") == "" {
		return store.Query{}, deed.Invalid{Field: "sort", Detail: "is an index, with - in front for descending"}
	}
	sq := store.Query{Limit: limit, Sort: strings.TrimPrefix(q.Get("sort"), "-"), Desc: strings.HasPrefix(q.Get("sort"), "-")}
	if sq.Where, err = a.conditions(view, q["where"]); err != nil {
		return sq, err
	}
	if sq.Search = q.Get("search"); sq.Search == "" && q.Has("search") {
		return sq, deed.Invalid{Field: "search", Detail: "is empty: give at least one word"}
	}
	sq.After, err = decodeMark(fingerprint(query, q), q.Get("after"))
	return sq, err
}

// viewReader waits until the view has read up to min-position, if the request
// asks for that, and says how far it has read.
func (a *api) viewReader(w http.ResponseWriter, r *http.Request, view string, q url.Values) (deed.Reader, error) {
	from, err := a.reader(q)
	if err != nil {
		return nil, err
	}
	if err := a.await(r.Context(), view, q); err != nil {
		return nil, err
	}
	at, err := a.rt.ViewPosition(view)
	if err != nil {
		return nil, err
	}
	if at != "" {
		w.Header().Set("X-Read-Position", string(at))
	}
	return from, nil
}

func (a *api) await(ctx context.Context, view string, q url.Values) error {
	min, err := cursorParam(q, "min-position")
	if err != nil {
		return err
	}
	wait := defaultWait
	if s := q.Get("wait"); s != "" {
		if wait, err = time.ParseDuration(s); err != nil || wait < 0 || wait > maxWait {
			return deed.Invalid{Field: "wait", Detail: "must be a duration from 0s to 30s, for example 2s"}
		}
	}
	if min == store.Start {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	err = a.rt.WaitForView(ctx, view, min)
	if err != nil && !errors.Is(err, deed.ErrUnknown) {
		return problem(http.StatusServiceUnavailable, CodeUnavailable, "the view has not read that far yet: ask again, or look at GET /v1/followers ("+plain(err)+")")
	}
	return err
}
