package inbox

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
)

type parcel struct {
	To string `json:"to"`
}

// A file whose command is handled in the background stays until something has
// become of that.
func TestInTheBackground(t *testing.T) {
	send := deed.Stepwise[parcel]{
		Name: "parcel.send",
		Check: func(_ context.Context, _ deed.Reader, _ string, p parcel) (found []deed.Finding, _ error) {
			if p.To == "" {
				found = append(found, deed.Finding{Field: "to", Text: "is missing", Fatal: true})
			}
			return found, nil
		},
		Steps: []deed.Step[parcel]{{Name: "send", Do: func(_ context.Context, _ *deed.Work, p parcel) error {
			switch p.To {
			case "nowhere":
				return deed.Reason{Code: "no_such_place", Text: "nobody lives there"}
			case "far":
				return deed.Permanent(errors.New("the van is broken"))
			}
			return nil
		}}},
	}
	rt := deedtest.Start(t, deed.Domain{Name: "post", Parts: []deed.Part{send}})
	r := runFor(t, t.TempDir(), Commands(rt.Describe()), Dispatcher{rt}, quick(t))
	for name, c := range map[string]struct{ to, code string }{
		"good": {"ann", ""}, "invalid": {"", "invalid"}, "rejected": {"nowhere", "rejected"}, "failed": {"far", "failed"},
	} {
		drop(t, r.dir, name+".json", `{"body":{"to":"`+c.to+`"}}`)
		if c.code == "" {
			r.await("done/" + name + ".json")
			continue
		}
		r.await("failed/" + name + ".json")
		if p := r.problem(name); p.Code != c.code || strings.Contains(p.Detail, "deed command correct "+name) != (name == "invalid") {
			t.Errorf("%s: %+v", name, p)
		}
	}
}
