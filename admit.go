package deed

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// RoleAdmin may ask every command.
const RoleAdmin = "admin"

// Forbidden is the error of a command whose actor has none of the roles it
// takes. The refusal is recorded in a stream of the category "$poison".
type Forbidden struct {
	Command string   // for example "order.submit"
	Roles   []string // any of them would do
}

func (f Forbidden) Error() string {
	return fmt.Sprintf("%s needs one of the roles %s", f.Command, strings.Join(f.Roles, ", "))
}

// QuotaExceeded is the error of a command that its actor has asked too often.
// The refusal is recorded in a stream of the category "$poison".
type QuotaExceeded struct {
	Command string
	Limit   uint64
	Retry   time.Duration // until the next period begins
}

func (q QuotaExceeded) Error() string {
	return fmt.Sprintf("%s was asked %d times already, which is the limit; the next period begins in %v", q.Command, q.Limit, q.Retry.Round(time.Second))
}

// Repeated is why a command is rejected that equals one its actor asked a
// moment ago, see Rules.Window.
var Repeated = Reason{"repeated_command", "the same actor has asked exactly this a moment ago; if it is meant, ask again later"}

// authorise reports whether the caller may ask the command at all.
func (rt *Runtime) authorise(ctx context.Context, a *asked) error {
	if !a.Restricted || slices.Contains(a.Roles, RoleAdmin) ||
		slices.ContainsFunc(a.rules.Roles, func(role string) bool { return slices.Contains(a.Roles, role) }) {
		return nil
	}
	roles := a.rules.Roles
	if len(roles) == 0 {
		roles = []string{RoleAdmin}
	}
	err := Forbidden{a.name, roles}
	rt.poison(ctx, a, "forbidden", err)
	return err
}

// mayDo reports whether the caller has one of the roles that it takes to do
// something that is no command.
func (rt *Runtime) mayDo(ctx context.Context, what, stream string, roles []string) error {
	a := &asked{Call: callOf(ctx), name: what, rules: Rules{Roles: roles}, stream: stream}
	var err error
	if a.meta, err = wire.Marshal(meta{Actor: a.Actor, Correlation: a.Correlation, Source: a.Source}); err != nil {
		return err
	}
	return rt.authorise(ctx, a)
}

// mayAsk reports whether the caller may ask a command that somebody asked
// before: to give it other parameters is to ask it.
func (rt *Runtime) mayAsk(ctx context.Context, s CommandStatus) error {
	a := &asked{Call: callOf(ctx), name: s.Command, rules: rt.rulesOf(s.Command), stream: s.Stream}
	var err error
	if a.meta, err = wire.Marshal(meta{Actor: a.Actor, Command: s.ID, Correlation: s.Correlation, Causation: a.Causation, Source: a.Source}); err != nil {
		return err
	}
	return rt.authorise(ctx, a)
}

// rulesOf returns the rules of a command, known by its full name.
func (rt *Runtime) rulesOf(name string) Rules {
	if p, ok := rt.stepwise[name]; ok {
		return p.rules
	}
	noun, verb, _ := strings.Cut(name, ".")
	if k, ok := rt.kinds[noun]; ok {
		return k.rulesOf(verb)
	}
	return Rules{}
}

// poison records a command that was refused because of who asked it. If that
// cannot be recorded it is logged; the command is refused all the same.
func (rt *Runtime) poison(ctx context.Context, a *asked, code string, why error) {
	data, err := wire.Marshal(poisoned{a.name, a.stream, code, why.Error(), a.Roles})
	if err == nil {
		_, err = rt.append(ctx, store.Write{
			Stream: poisonCategory + "/" + uuid.Must(uuid.NewV7()).String(), Expect: store.None,
			Events: []store.Event{{ID: newEventID(), Type: typeRefused, Data: data, Meta: a.meta}},
		})
	}
	if err != nil {
		rt.cfg.Logger.Error("refusal not recorded", slog.String("command", a.name), slog.String("actor", a.Actor), slog.String("code", code), slog.Any("error", err))
	}
}

// The categories of guards, and the type of their events.
const (
	quotaCategory  = "$quota"
	repeatCategory = "$repeat"
	typeUsed       = "used"
)

// A guard is a stream beside the entity's that has a say in whether a command
// is accepted. It moves in the same append, so it counts exactly what was.
type guard struct {
	stream  string
	version uint64
}

// guards looks at the guards of a command, or says which of them refuses it.
func (rt *Runtime) guards(ctx context.Context, a *asked) ([]guard, error) {
	var all []guard
	if q := a.rules.Quota; q.Limit > 0 {
		per := q.per()
		now := rt.cfg.Now()
		begins := now.Truncate(per)
		g := guard{stream: quotaCategory + "/" + a.name + "/" + digest(a.Actor) + "/" + strconv.FormatInt(begins.Unix(), 10)}
		if err := g.look(ctx, rt, nil); err != nil {
			return nil, err
		}
		if g.version >= q.Limit {
			return nil, QuotaExceeded{a.name, q.Limit, begins.Add(per).Sub(now)}
		}
		all = append(all, g)
	}
	if w := a.rules.Window; w > 0 {
		g := guard{stream: repeatCategory + "/" + digest(a.Actor+"\x00"+a.hash)}
		var last time.Time
		if err := g.look(ctx, rt, &last); err != nil {
			return nil, err
		}
		if rt.cfg.Now().Sub(last) < w {
			return nil, Rejected{Stream: a.stream, Command: a.name, Err: Repeated}
		}
		all = append(all, g)
	}
	return all, nil
}

// look finds out how far the guard has come, and when it last moved.
func (g *guard) look(ctx context.Context, rt *Runtime, last *time.Time) error {
	for rec, err := range rt.store.Read(ctx, g.stream, store.Range{Backward: true, Limit: 1}) {
		if err != nil {
			return storeError(err)
		}
		if g.version = rec.Version; last != nil {
			*last = rec.Time
		}
	}
	return nil
}

// write moves the guard on.
func (g guard) write(a *asked) store.Write {
	return store.Write{
		Stream: g.stream, Expect: store.Exactly(g.version),
		Events: []store.Event{{ID: newEventID(), Type: typeUsed, Data: []byte("{}"), Meta: a.meta}},
	}
}

// overtaken reports whether an append failed because a guard has moved on:
// then somebody else's command was accepted, and this one is judged again.
func overtaken(err error) bool {
	c, ok := errors.AsType[*store.ConflictError](err)
	return ok && (strings.HasPrefix(c.Stream, quotaCategory+"/") || strings.HasPrefix(c.Stream, repeatCategory+"/"))
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}
