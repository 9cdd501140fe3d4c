package httpapi

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
)

// TopicList is the topics there are.
type TopicList struct {
	Topics []deed.TopicInfo `json:"topics"`
}

func (a *api) topics(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	return answer(w, http.StatusOK, TopicList{a.rt.Topics()})
}

func (a *api) topic(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	all := a.rt.Topics()
	i := slices.IndexFunc(all, func(t deed.TopicInfo) bool { return t.Name == r.PathValue("topic") })
	if i < 0 {
		return problem(http.StatusNotFound, CodeNotFound, "there is no topic "+short(r.PathValue("topic"))+": GET /v1/topics lists those there are")
	}
	return answer(w, http.StatusOK, all[i])
}

// CursorHeader is the header of a page of a topic that says where to go on.
const CursorHeader = "X-Next-Cursor"

// MoreHeader is the header of a page of a topic that says whether there is
// more already: true or false.
const MoreHeader = "X-More"

// topicEvents answers public events of a topic, from a cursor, as a batch of
// CloudEvents. With wait it lets a reader wait that has them all.
func (a *api) topicEvents(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r, "after", "type", "limit", "wait")
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
	wait, err := waitParam(q)
	if err != nil {
		return err
	}
	var page deed.TopicPage
	until := time.Now().Add(wait)
	for {
		page, err = a.rt.ReadTopic(r.Context(), r.PathValue("topic"), after, listParam(q, "type"), limit)
		left := time.Until(until)
		if err != nil || len(page.Events) > 0 || !page.More && left <= 0 || r.Context().Err() != nil {
			break
		}
		if after = page.Next; page.More {
			continue // none of those it has read is wanted
		}
		if err := store.Wait(r.Context(), a.rt.Store(), after, min(left, livePoll)); err != nil {
			break
		}
	}
	if err != nil {
		return err
	}
	body, err := json.Marshal(page.Events)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/cloudevents-batch+json")
	h.Set(CursorHeader, string(page.Next))
	h.Set(MoreHeader, strconv.FormatBool(page.More))
	h.Set("Link", "<"+nextPage(r, q, page.Next)+`>; rel="next"`)
	w.Write(append(body, '\n')) // the caller may be gone: then nobody minds
	return nil
}

// nextPage is the address of the page after one.
func nextPage(r *http.Request, q url.Values, next store.Cursor) string {
	q.Set("after", string(next))
	return (&url.URL{Path: r.URL.Path, RawQuery: q.Encode()}).String()
}
