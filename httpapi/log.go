package httpapi

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
)

// A StreamPage is some events of a stream.
type StreamPage struct {
	Stream string  `json:"stream"`
	Events []Event `json:"events"`
	Next   uint64  `json:"next,omitempty"` // pass as from to go on; missing = there are no more
}

// stream answers the events of a stream.
func (a *api) stream(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r, "from", "limit", "backward")
	if err != nil {
		return err
	}
	page := StreamPage{Stream: r.PathValue("category") + "/" + r.PathValue("id"), Events: []Event{}}
	if err := store.CheckName("stream", page.Stream); err != nil {
		return err
	}
	var rg store.Range
	if rg.From, err = uintParam(q, "from"); err != nil {
		return err
	}
	if rg.Backward, err = boolParam(q, "backward"); err != nil {
		return err
	}
	limit, err := limitParam(q)
	if err != nil {
		return err
	}
	rg.Limit = limit + 1 // one more tells whether there are more
	for rec, err := range a.rt.Store().Read(r.Context(), page.Stream, rg) {
		if err != nil {
			return err
		}
		if len(page.Events) == limit {
			page.Next = rec.Version
			break
		}
		page.Events = append(page.Events, eventOf(rec))
	}
	if len(page.Events) == 0 {
		for _, err := range a.rt.Store().Read(r.Context(), page.Stream, store.Range{Limit: 1}) {
			if err != nil {
				return err
			}
			return answer(w, http.StatusOK, page)
		}
		return problem(http.StatusNotFound, CodeNotFound, "there is no stream "+short(page.Stream))
	}
	return answer(w, http.StatusOK, page)
}

// A LogPage is some events of the log.
type LogPage struct {
	Events []Event      `json:"events"`
	Next   store.Cursor `json:"next"` // pass as after to go on, now or when there is more
	More   bool         `json:"more"` // there are more already
}

// events answers the log, from a cursor.
func (a *api) events(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r, "after", "category", "type", "limit")
	if err != nil {
		return err
	}
	after, err := cursorParam(q, "after")
	if err != nil {
		return err
	}
	limit, err := limitParam(q)
	if err != nil {
		return err
	}
	f := store.Filter{Categories: listParam(q, "category"), Types: listParam(q, "type"), Limit: limit}
	page := LogPage{Events: []Event{}, Next: after}
	head, err := a.rt.Store().Head(r.Context())
	if err != nil {
		return err
	}
	for rec, err := range a.rt.Store().ReadAll(r.Context(), after, f) {
		if err != nil {
			return err
		}
		page.Events = append(page.Events, eventOf(rec))
		page.Next = page.Next.Advance(rec.Position)
	}
	if page.More = len(page.Events) == limit; !page.More {
		page.Next = page.Next.Join(head)
	}
	return answer(w, http.StatusOK, page)
}

// Timing of the live tail.
const (
	heartbeat    = 15 * time.Second
	writeTimeout = 30 * time.Second // a reader that takes longer is gone
	livePoll     = time.Second
	liveBatch    = 256
)

// live sends events as they happen (server-sent events). A reader that comes
// back with Last-Event-ID misses nothing and gets nothing twice.
func (a *api) live(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r, "after", "category", "type")
	if err != nil {
		return err
	}
	after, err := a.liveFrom(r, q.Get("after"))
	if err != nil {
		return err
	}
	t, err := newTail(w)
	if err != nil {
		return err
	}
	t.filter = store.Filter{Categories: listParam(q, "category"), Types: listParam(q, "type"), Limit: liveBatch}
	if err := t.send(fmt.Sprintf("retry: 1000\nid: %s\n\n", after)); err != nil {
		return nil
	}
	beat := time.Now().Add(heartbeat)
	for r.Context().Err() == nil {
		n, next, err := t.catchUp(r, a.rt.Store(), after)
		if err != nil {
			t.end(r, a, err)
			return nil
		}
		after = next
		if n > 0 {
			beat = time.Now().Add(heartbeat)
			continue
		}
		if time.Now().After(beat) {
			if t.send(": still here\n\n") != nil {
				return nil
			}
			beat = time.Now().Add(heartbeat)
		}
		if err := store.Wait(r.Context(), a.rt.Store(), after, livePoll); err != nil {
			return nil
		}
	}
	return nil
}

// liveFrom is where a reader of the live tail begins: where it says, or now.
func (a *api) liveFrom(r *http.Request, after string) (store.Cursor, error) {
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		after = id
	}
	switch after {
	case "":
		return a.rt.Store().Head(r.Context())
	case "beginning":
		return store.Start, nil
	}
	c, err := store.ParseCursor(after)
	if err != nil {
		return c, deed.Invalid{Field: "after", Detail: `is not a position: use one that an answer gave you, or "beginning"`}
	}
	return c, nil
}

// end says why there is no more, if anybody is there to hear it. The reader
// comes back to where it was.
func (t *tail) end(r *http.Request, a *api, err error) {
	if r.Context().Err() != nil {
		return
	}
	p := problemOf(err)
	p.Request = requestID(r.Context())
	a.log.LogAttrs(r.Context(), slog.LevelError, "the live tail ends", slog.String("request", p.Request), slog.Any("error", err))
	if data, err := json.Marshal(p); err == nil {
		t.send(fmt.Sprintf("event: problem\ndata: %s\n\n", data)) // the connection ends in any case
	}
}

type tail struct {
	w      http.ResponseWriter
	rc     *http.ResponseController
	filter store.Filter
}

// newTail begins an answer that has no end.
func newTail(w http.ResponseWriter) (*tail, error) {
	t := &tail{w: w, rc: http.NewResponseController(w)}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")
	return t, t.rc.SetReadDeadline(time.Time{}) // the tail outlives the server's timeout
}

func (t *tail) send(s string) error {
	if err := t.rc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if _, err := t.w.Write([]byte(s)); err != nil {
		return err
	}
	return t.rc.Flush()
}

// catchUp sends what there is after a cursor, and returns the next cursor.
func (t *tail) catchUp(r *http.Request, s store.Store, after store.Cursor) (int, store.Cursor, error) {
	head, err := s.Head(r.Context())
	if err != nil || head == after {
		return 0, after, err
	}
	var out []byte
	n := 0
	for rec, err := range s.ReadAll(r.Context(), after, t.filter) {
		if err != nil {
			return n, after, err
		}
		after = after.Advance(rec.Position)
		data, err := json.Marshal(eventOf(rec))
		if err != nil {
			return n, after, err
		}
		out = fmt.Appendf(out, "id: %s\nevent: event\ndata: %s\n\n", after, data)
		n++
	}
	if n < liveBatch {
		after = after.Join(head)
	}
	if n == 0 {
		return 0, after, nil
	}
	return n, after, t.send(string(out))
}
