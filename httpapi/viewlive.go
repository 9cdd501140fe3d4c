package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/deed-dev/deed/store"
)

// liveView sends the documents of a view that change, as they do (server-sent
// events). Of a group it sends those that become members, or cease to be.
func (a *api) liveView(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r, "after", "key")
	if err != nil {
		return err
	}
	after, err := a.liveFrom(r, q.Get("after"))
	if err != nil {
		return err
	}
	changes, err := a.rt.ViewTail(r.PathValue("view"), q.Get("key"), after)
	if err != nil {
		return err
	}
	t, err := newTail(w)
	if err != nil {
		return err
	}
	if t.send(fmt.Sprintf("retry: 1000\nid: %s\n\n", after)) != nil {
		return nil
	}
	beat := time.Now().Add(heartbeat)
	for r.Context().Err() == nil {
		some, more, err := changes.Next(r.Context())
		if err != nil {
			t.end(r, a, err)
			return nil
		}
		var out bytes.Buffer
		for _, c := range some {
			data, err := json.Marshal(c)
			if err != nil {
				t.end(r, a, err)
				return nil
			}
			event := "changed"
			if c.Value == nil {
				event = "gone"
			}
			fmt.Fprintf(&out, "event: %s\ndata: %s\n\n", event, data)
		}
		switch {
		case out.Len() > 0: // who comes back after half of it gets it again
			fmt.Fprintf(&out, "id: %s\n\n", changes.After())
		case time.Now().After(beat):
			fmt.Fprintf(&out, ": still here\nid: %s\n\n", changes.After())
		}
		if out.Len() > 0 {
			if t.send(out.String()) != nil {
				return nil
			}
			beat = time.Now().Add(heartbeat)
		}
		if more {
			continue
		}
		if err := store.Wait(r.Context(), a.rt.Store(), changes.After(), livePoll); err != nil {
			return nil
		}
	}
	return nil
}
