package deed

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/deed-dev/deed/store"
)

// A TopicInfo describes a topic to tools and people.
type TopicInfo struct {
	Name  string           `json:"name"`
	Doc   string           `json:"doc,omitempty"`
	Types []PublicTypeInfo `json:"types"`
}

// A PublicTypeInfo describes a type of public events.
type PublicTypeInfo struct {
	Type   string   `json:"type"`
	Events []string `json:"events"` // of which they are made, for example "order.placed"

	Data reflect.Type `json:"-"`
}

// Topics lists the topics there are, in the order of their names.
func (rt *Runtime) Topics() []TopicInfo {
	out := []TopicInfo{}
	for _, name := range slices.Sorted(maps.Keys(rt.topics)) {
		t := rt.topics[name]
		info := TopicInfo{Name: name, Doc: t.doc, Types: []PublicTypeInfo{}}
		makes := t.makes()
		for _, typ := range slices.Sorted(maps.Keys(makes)) {
			info.Types = append(info.Types, PublicTypeInfo{typ, makes[typ], rt.publicTypes[typ]})
		}
		out = append(out, info)
	}
	return out
}

// A TopicPage is some public events of a topic.
type TopicPage struct {
	Events []CloudEvent
	Next   store.Cursor // where to go on, now or when there is more
	More   bool         // there is more already
}

// pageOfTopic is how many events are read for a page if nobody says.
const pageOfTopic = 100

// ReadTopic returns public events of a topic that were recorded after a
// cursor, of up to limit events of the log (0 = 100), each of which may have
// become several; types, if not empty, are those that are wanted. It returns
// [ErrUnknown] if there is no such topic, [Invalid] if it never had such a type. A page ends before an event that cannot
// be made public; if that is the first, it returns [ErrNotPublic]: nothing is
// passed over.
func (rt *Runtime) ReadTopic(ctx context.Context, name string, after store.Cursor, types []string, limit int) (TopicPage, error) {
	page := TopicPage{Events: []CloudEvent{}, Next: after}
	t, err := rt.topic(name)
	if err != nil {
		return page, err
	}
	if err := t.checkTypes("type", types); err != nil {
		return page, err
	}
	if len(t.by) == 0 && len(t.answers) == 0 {
		return page, nil
	}
	f := t.filter
	f.Limit = cmp.Or(limit, pageOfTopic)
	head, recs, err := store.Tail(ctx, rt.store, after, f)
	if err != nil {
		return page, err
	}
	n := 0
	for rec, err := range recs {
		if err != nil {
			return page, err
		}
		n++
		events, err := t.tryPublish(rt, &rec, types)
		if err != nil && n > 1 {
			page.More = true
			return page, nil
		}
		if err != nil {
			return page, fmt.Errorf("%w on topic %s: %s@%d: %w; mend the publication, or read on after cursor %s", ErrNotPublic, name, rec.Stream, rec.Version, err, page.Next.Advance(rec.Position))
		}
		page.Events = append(page.Events, events...)
		page.Next = page.Next.Advance(rec.Position)
	}
	if page.More = n == f.Limit; !page.More {
		page.Next = page.Next.Join(head)
	}
	return page, nil
}

func (rt *Runtime) topic(name string) (*topic, error) {
	t, ok := rt.topics[name]
	if !ok {
		return nil, fmt.Errorf("%w: topic %q; there is %v", ErrUnknown, name, slices.Sorted(maps.Keys(rt.topics)))
	}
	return t, nil
}
