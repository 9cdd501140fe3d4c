package deed

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// A Claim is a unique value that an event takes or releases: as long as one
// entity holds it, no other entity can. Who holds it is decided in the append
// itself, so two commands can never both win. Values are compared as they
// are: normalise them first (trim, lower-case).
//
// An event says which claims it touches by a method Claims() []deed.Claim.
// Taking what the entity holds already, and releasing what it does not hold,
// changes nothing.
type Claim struct {
	Scope   string // what must be unique, for example "attendee-email"
	Value   string // never stored: its hash is
	Release bool   // give the value up instead of taking it
	Taken   error  // why a command is rejected whose event finds the value taken; default: a reason with the code "claim_taken"
}

type claimer interface{ Claims() []Claim }

// The events of a claim stream, "$claim/<scope>/<hash>".
const (
	claimTaken    = "taken"
	claimReleased = "released"
)

// holding is the data of the events of a claim stream.
type holding struct {
	Holder string `json:"holder"` // stream of the entity
}

func (c Claim) stream() string {
	sum := sha256.Sum256([]byte(c.Value))
	return "$claim/" + c.Scope + "/" + base64.RawURLEncoding.EncodeToString(sum[:])
}

func (c Claim) taken() error {
	if c.Taken != nil {
		return c.Taken
	}
	return Reason{"claim_taken", fmt.Sprintf("%s %q is taken", c.Scope, c.Value)}
}

// claims are what becomes of claims in one append, on behalf of one or several
// entities.
type claims struct {
	writes []store.Write
	now    map[string]string // claim stream -> holder after the events so far
	at     map[string]int    // claim stream -> index of its write
}

// clone is a copy that can be given up.
func (c claims) clone() claims {
	c.writes, c.now, c.at = slices.Clone(c.writes), maps.Clone(c.now), maps.Clone(c.at)
	for i := range c.writes {
		c.writes[i].Events = slices.Clip(c.writes[i].Events)
	}
	return c
}

// claim makes the claims of events come true for the holder, after what was
// claimed and released before. It returns the error of a claim that cannot be
// had; then nothing has changed.
func (rt *Runtime) claim(ctx context.Context, all *claims, holder string, events []any, meta []byte) error {
	c := all.clone()
	if c.now == nil {
		c.now, c.at = map[string]string{}, map[string]int{}
	}
	for _, e := range events {
		claimer, ok := e.(claimer)
		if !ok {
			continue
		}
		for _, one := range claimer.Claims() {
			if err := rt.claimOne(ctx, &c, holder, one, meta); err != nil {
				return err
			}
		}
	}
	*all = c
	return nil
}

func (rt *Runtime) claimOne(ctx context.Context, c *claims, holder string, claim Claim, meta []byte) error {
	if err := checkName("claim scope", claim.Scope); err != nil {
		return err
	}
	stream := claim.stream()
	i, seen := c.at[stream]
	if !seen {
		version, who, err := rt.holder(ctx, stream)
		if err != nil {
			return err
		}
		i, c.now[stream] = len(c.writes), who
		c.at[stream] = i
		c.writes = append(c.writes, store.Write{Stream: stream, Expect: store.Exactly(version)})
	}
	typ := ""
	switch who := c.now[stream]; {
	case claim.Release && who == holder:
		typ, c.now[stream] = claimReleased, ""
	case claim.Release || who == holder:
		return nil
	case who != "":
		return Rejected{Stream: holder, Err: claim.taken()}
	default:
		typ, c.now[stream] = claimTaken, holder
	}
	data, err := wire.Marshal(holding{holder})
	if err != nil {
		return err
	}
	c.writes[i].Events = append(c.writes[i].Events, store.Event{ID: newEventID(), Type: typ, Data: data, Meta: meta})
	return nil
}

// holder returns the version of a claim stream and who holds the claim now.
func (rt *Runtime) holder(ctx context.Context, stream string) (version uint64, holder string, err error) {
	for rec, err := range rt.store.Read(ctx, stream, store.Range{Backward: true, Limit: 1}) {
		if err != nil {
			return 0, "", storeError(err)
		}
		if rec.Type == claimTaken {
			var h holding
			if err := wire.Unmarshal(rec.Data, &h); err != nil {
				return 0, "", fmt.Errorf("deed: %s@%d: %w", stream, rec.Version, err)
			}
			holder = h.Holder
		}
		version = rec.Version
	}
	return version, holder, nil
}
