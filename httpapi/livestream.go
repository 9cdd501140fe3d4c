package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
)

// liveStream sends the events of a stream as they happen, until what it tells
// of is over (server-sent events). A reader that comes back with Last-Event-ID
// misses nothing.
func (a *api) liveStream(w http.ResponseWriter, r *http.Request, stream string, over func(context.Context) (bool, error)) error {
	if _, err := query(r); err != nil {
		return err
	}
	wasOver, err := over(r.Context())
	if err != nil {
		return err
	}
	from := uint64(0)
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		if from, err = strconv.ParseUint(last, 10, 63); err != nil {
			return deed.Invalid{Detail: "Last-Event-ID must be a version of the stream"}
		}
	}
	t, err := newTail(w)
	if err != nil {
		return err
	}
	if t.send("retry: 1000\n\n") != nil {
		return nil
	}
	beat := time.Now().Add(heartbeat)
	for r.Context().Err() == nil {
		head, err := a.rt.Store().Head(r.Context())
		if err == nil {
			var isOver bool
			var next uint64
			next, isOver, err = t.streamEvents(r.Context(), a.rt.Store(), stream, from, over)
			if isOver {
				return nil
			}
			if err == nil && wasOver { // the reader knows all there is
				t.send(overEvent) // the connection ends in any case
				return nil
			}
			if next > from {
				from, beat = next, time.Now().Add(heartbeat)
			}
		}
		if err != nil {
			t.end(r, a, err)
			return nil
		}
		if time.Now().After(beat) {
			if t.send(": still here\n\n") != nil {
				return nil
			}
			beat = time.Now().Add(heartbeat)
		}
		if err := store.Wait(r.Context(), a.rt.Store(), head, livePoll); err != nil {
			return nil
		}
	}
	return nil
}

// overEvent says that there will be no more.
const overEvent = "event: over\ndata: {}\n\n"

// streamEvents sends what a stream has after a version, and reports whether that
// was the end of it.
func (t *tail) streamEvents(ctx context.Context, s store.Store, stream string, from uint64, over func(context.Context) (bool, error)) (uint64, bool, error) {
	var out bytes.Buffer
	for rec, err := range s.Read(ctx, stream, store.Range{From: from + 1}) {
		if err != nil {
			return from, false, err
		}
		data, err := json.Marshal(eventOf(rec))
		if err != nil {
			return from, false, err
		}
		from = rec.Version
		fmt.Fprintf(&out, "id: %d\nevent: event\ndata: %s\n\n", from, data)
	}
	if out.Len() == 0 {
		return from, false, nil
	}
	isOver, err := over(ctx)
	if err != nil {
		return from, false, err
	}
	if isOver {
		out.WriteString(overEvent)
	}
	return from, isOver, t.send(out.String())
}
