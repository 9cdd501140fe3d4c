package deed

import (
	"fmt"
	"strconv"

	"github.com/google/uuid"

	"github.com/deed-dev/deed/internal/engine"
)

// Begin stores c, as an action of a [Process] or [Schedule]. It is handled like
// any stored command; what becomes of it, [Commands] tells.
func (s Stepwise[C]) Begin(id string, c C) Action { return beginCommand{s.Name, id, c} }

type beginCommand struct {
	name, id string
	c        any
}

func (b beginCommand) plan(p *plan, x *turn) error {
	def, ok := p.rt.stepwise[b.name]
	if !ok {
		return engine.Permanent(fmt.Errorf("%w: the runtime has no stepwise command %q", ErrUnknown, b.name))
	}
	if err := checkID(b.id); err != nil {
		return engine.Permanent(err)
	}
	i := &x.cell.state
	call := Call{ID: x.deriveID("command " + strconv.Itoa(len(p.extra))), Actor: i.Actor, Correlation: i.Correlation, Causation: x.stream, Source: i.Kind, Trace: i.Trace, Async: true}
	a, err := p.rt.ask(With(p.ctx, call), b.name, def.rules, def.noun+"/"+b.id, b.c)
	if err != nil {
		return engine.Permanent(err)
	}
	w, err := a.receiving(b.c)
	p.extra = append(p.extra, w)
	x.cur.Begun = append(x.cur.Begun, w.Stream)
	return err
}

// deriveID makes an id that is the same whenever the present input is taken in.
func (x *turn) deriveID(what string) string {
	return uuid.NewSHA1(stepSpace, []byte(x.stream+"\x00"+strconv.FormatUint(x.cell.version, 10)+"\x00"+what)).String()
}
