package deed

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

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

// claimWrites returns the writes that make the claims of events come true for
// the holder, or the error of a claim that cannot be had.
func (rt *Runtime) claimWrites(ctx context.Context, holder string, events []any, meta []byte) ([]store.Write, error) {
	var writes []store.Write
	now := map[string]string{} // claim stream -> holder after the events so far
	at := map[string]int{}     // claim stream -> index of its write
	for _, e := range events {
		c, ok := e.(claimer)
		if !ok {
			continue
		}
		for _, claim := range c.Claims() {
			if err := checkName("claim scope", claim.Scope); err != nil {
				return nil, err
			}
			stream := claim.stream()
			i, seen := at[stream]
			if !seen {
				version, who, err := rt.holder(ctx, stream)
				if err != nil {
					return nil, err
				}
				i, now[stream] = len(writes), who
				at[stream] = i
				writes = append(writes, store.Write{Stream: stream, Expect: store.Exactly(version)})
			}
			typ := ""
			switch who := now[stream]; {
			case claim.Release && who == holder:
				typ, now[stream] = claimReleased, ""
			case claim.Release || who == holder:
				continue
			case who != "":
				return nil, Rejected{Stream: holder, Err: claim.taken()}
			default:
				typ, now[stream] = claimTaken, holder
			}
			data, err := wire.Marshal(holding{holder})
			if err != nil {
				return nil, err
			}
			writes[i].Events = append(writes[i].Events, store.Event{ID: newEventID(), Type: typ, Data: data, Meta: meta})
		}
	}
	return writes, nil
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
