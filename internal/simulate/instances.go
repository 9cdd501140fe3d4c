package simulate

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
)

// Begin implements deed.Visitor.
func (v *visitor) Begin(ctx context.Context, saga, id string, state any) error {
	if err := v.pace(v.rand); err != nil {
		return err
	}
	headers := map[string]string{"Idempotency-Key": crand.Text(), "X-Actor": v.actor}
	refused, err := v.insist(ctx, http.MethodPost, client.Path(nil, "v1", "sagas", saga, id), headers, state, nil)
	if err != nil || refused {
		v.count(err, refused)
		return err
	}
	path := client.Path(url.Values{"wait": {"30s"}, "history": {"true"}}, "v1", "sagas", saga, id)
	for {
		var s httpapi.InstanceStatus
		if _, err := v.insist(ctx, http.MethodGet, path, nil, nil, &s); err != nil {
			return err
		}
		switch {
		case s.State == deed.InstanceStuck:
			return fmt.Errorf("saga %s %s is stuck: %s", saga, id, s.Reason)
		case s.State.Over():
			if n := len(s.History); n > 0 {
				v.position = s.History[n-1].Position
			}
			v.count(nil, s.State != deed.InstanceCompleted)
			return nil
		}
	}
}

// Decide implements deed.Visitor.
func (v *visitor) Decide(ctx context.Context, question, choice string) error {
	if err := v.pace(v.rand); err != nil {
		return err
	}
	var page httpapi.TaskPage
	if _, err := v.insist(ctx, http.MethodGet, client.Path(url.Values{"state": {"open"}, "limit": {"100"}}, "v1", "tasks"), nil, nil, &page); err != nil {
		return err
	}
	for _, i := range v.rand.Perm(len(page.Tasks)) {
		t := page.Tasks[i]
		if t.Name != question {
			continue
		}
		body := map[string]string{"choice": choice, "reason": "it looks like that"}
		refused, err := v.insist(ctx, http.MethodPost, client.Path(nil, "v1", "tasks", t.ID, "decision"), map[string]string{"X-Actor": v.actor}, body, nil)
		v.count(err, refused)
		return err
	}
	return deed.ErrNotFound
}

// insist asks until there is an answer. That it is a no is part of life.
func (v *visitor) insist(ctx context.Context, method, path string, headers map[string]string, body, out any) (refused bool, err error) {
	for try := 0; ; try++ {
		_, err := v.sim.Client.Do(ctx, method, path, headers, body, out)
		p, known := errors.AsType[httpapi.Problem](err)
		switch {
		case err == nil:
			return false, nil
		case known && isRefusal(p):
			return true, nil
		case known && p.Status < 500, try == 5:
			return false, err
		}
		if err := again(ctx, try); err != nil {
			return false, err
		}
	}
}

// count counts what was asked.
func (v *visitor) count(err error, refused bool) {
	if err != nil {
		return
	}
	v.sim.asked.Add(1)
	if refused {
		v.sim.refused.Add(1)
	}
}
