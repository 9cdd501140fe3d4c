package httpapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/auth"
)

// guarded serves a route to those who may use it.
func (a *api) guarded(rt route) http.Handler {
	if a.opts.Auth == nil || rt.access == anybody {
		return a.handle(rt.serve)
	}
	return a.handle(func(w http.ResponseWriter, r *http.Request) error {
		p, err := a.admit(r, rt)
		noteActor(r.Context(), p.Actor)
		if err != nil {
			return err
		}
		ctx := context.WithValue(r.Context(), principalKey{}, p)
		if rt.endless {
			var end context.CancelFunc
			ctx, end = context.WithCancel(ctx)
			defer end()
			go a.watch(ctx, end, r, rt)
		}
		return rt.serve(w, r.WithContext(ctx))
	})
}

// admit returns who asks, if they may use the route.
func (a *api) admit(r *http.Request, rt route) (auth.Principal, error) {
	p, err := a.opts.Auth.Authenticate(r)
	if err != nil {
		return p, err
	}
	roles := a.takes(r, rt)
	if roles == nil || slices.ContainsFunc(roles, p.Is) {
		return p, nil
	}
	if rt.own != nil && p.Actor != "" {
		actor, err := rt.own(r)
		if known := !errors.Is(err, deed.ErrNotFound) && !errors.Is(err, deed.ErrUnknown) && !isInvalid(err); known && (err != nil || actor == p.Actor) {
			return p, err
		}
	}
	return p, problem(http.StatusForbidden, CodeForbidden, "this needs one of the roles "+strings.Join(roles, ", "))
}

// askedBy returns who asked the command that a request is about. That there is
// no such command is nobody else's business.
func (a *api) askedBy(r *http.Request) (string, error) {
	s, err := a.rt.Commands().Get(r.Context(), r.PathValue("id"))
	return s.Actor, err
}

// begunBy returns who began the process or saga that a request is about.
func (a *api) begunBy(kind string) func(*http.Request) (string, error) {
	return func(r *http.Request) (string, error) {
		i, err := a.rt.Instances().Get(r.Context(), kind, r.PathValue("name"), r.PathValue("id"))
		return i.Actor, err
	}
}

// takes returns the roles of which a route takes any, or nil if anyone who is
// known may use it.
func (a *api) takes(r *http.Request, rt route) []string {
	switch rt.access {
	case anyone, ruled:
		return nil
	case readers, operators:
		return []string{string(rt.access)}
	case askers:
		if roles := a.queryRoles[r.PathValue("name")]; len(roles) > 0 {
			return roles
		}
		return []string{auth.RoleReader}
	case consumers:
		return a.consumerRoles(r)
	case senders:
		return a.senderRoles(r)
	case viewers:
		if roles := a.viewRoles[cmp.Or(r.PathValue("view"), r.PathValue("group"))]; len(roles) > 0 {
			return roles
		}
		return []string{auth.RoleReader}
	}
	return []string{auth.RoleAdmin}
}

// viewRoles returns who may read which view or group.
func viewRoles(rt *deed.Runtime) map[string][]string {
	all := map[string][]string{}
	for _, v := range rt.Describe().Views {
		all[v.Name] = v.Roles
	}
	for _, g := range rt.Groups() {
		all[g.Name] = g.Roles
	}
	return all
}

// recheck is how often an answer without an end is questioned.
const recheck = auth.MaxAge

// watch ends an answer without an end when its reader may not have it any
// more: a key is revoked, a token expires.
func (a *api) watch(ctx context.Context, end context.CancelFunc, r *http.Request, rt route) {
	tick := time.NewTicker(recheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if _, err := a.admit(r, rt); isDenied(err) {
			end()
			return
		}
	}
}

// isDenied tells a refusal from not knowing at the moment.
func isDenied(err error) bool {
	p, given := errors.AsType[Problem](err)
	_, refused := errors.AsType[auth.Refusal](err)
	return refused || given && p.Code == CodeForbidden
}

type principalKey struct{}

// asking returns the call as that of the request's principal. Whatever the
// request says of its actor counts for administrators only: they may act on
// behalf of others, and the source then says who it was.
func asking(r *http.Request, call deed.Call) deed.Call {
	p, ok := r.Context().Value(principalKey{}).(auth.Principal)
	if !ok {
		return call
	}
	said := call.Actor
	call.Actor, call.Roles, call.Restricted = p.Actor, p.Roles, true
	if said != "" && said != p.Actor && p.Is(auth.RoleAdmin) {
		call.Actor, call.Source = said, fmt.Sprintf("%s by %s", call.Source, p.Actor)
	}
	return call
}

// authProblem is the part of the mapping from errors to HTTP that is about who
// asks, and about keys.
func authProblem(err error) (Problem, bool) {
	refusal, refused := errors.AsType[auth.Refusal](err)
	switch {
	case refused:
		p := problem(http.StatusUnauthorized, CodeUnauthenticated, refusal.Error())
		p.challenge = `Bearer realm="deed"`
		switch refusal {
		case auth.Missing:
		case auth.Several:
			p.challenge += `, error="invalid_request"`
		default:
			p.challenge += `, error="invalid_token"`
		}
		return p, true
	case errors.Is(err, auth.ErrUnavailable):
		return problem(http.StatusServiceUnavailable, CodeUnavailable, "the keys that tokens are checked with cannot be had: ask again later"), true
	case errors.Is(err, auth.ErrNoKey):
		return problem(http.StatusNotFound, CodeNotFound, plain(err)), true
	case errors.Is(err, auth.ErrKeyEnded):
		return problem(http.StatusConflict, CodeConflict, plain(err)), true
	case errors.Is(err, auth.ErrInput):
		return problem(http.StatusBadRequest, CodeInvalid, plain(err)), true
	}
	return Problem{}, false
}
