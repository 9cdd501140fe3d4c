package inbound

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// Where senders are kept, and where it is recorded what is done to them.
const (
	sendersColl = "$sender"
	auditStream = "$audit/senders"
)

// ErrNoSender reports that there is no sender of that name.
var ErrNoSender = errors.New("deed: there is no such sender")

// A Sender is somebody who may send messages to a reception, by the name under
// which it does.
type Sender struct {
	Reception string `json:"reception"`
	Name      string `json:"name"`
	Settings
	Created time.Time `json:"created_at"`
	By      string    `json:"created_by,omitempty"`
	Changed time.Time `json:"changed_at"`
}

// stored is what is stored of a sender: a document of the collection "$sender"
// under "<reception>/<name>".
type stored struct {
	Sender
	Secrets []secret `json:"secrets,omitempty"`
}

// Senders looks after the senders of a runtime. Senders are data: they are made and
// changed while the program runs, and all its nodes know at once.
type Senders struct {
	rt  *deed.Runtime
	now func() time.Time
}

// NewSenders returns the senders of a runtime.
func NewSenders(rt *deed.Runtime) *Senders { return &Senders{rt, time.Now} }

// Get returns a sender that can verify requests and read them.
func (s *Senders) Get(ctx context.Context, reception, name string) (Sender, error) {
	doc, _, err := s.load(ctx, reception, name)
	if err != nil {
		return Sender{}, err
	}
	doc.secrets, doc.source = doc.Secrets, "/receptions/"+reception+"/senders/"+name
	return doc.Sender, nil
}

// Shown is a sender without what nobody is to see.
func (s Sender) Shown() Sender {
	s.Secret = ""
	if len(s.secrets) > 0 {
		s.Secret = hidden
	}
	s.Format, s.Proof = s.format(), s.proof()
	s.secrets = nil
	return s
}

// List returns the senders of a reception, or of all if reception is "", in order
// and without what nobody is to see.
func (s *Senders) List(ctx context.Context, reception string) ([]Sender, error) {
	prefix := ""
	if reception != "" {
		if err := s.check(reception); err != nil {
			return nil, err
		}
		prefix = reception + "/"
	}
	out := []Sender{}
	for d, err := range s.rt.Store().List(ctx, sendersColl, prefix, "") {
		if err != nil {
			return nil, err
		}
		doc, err := parse(d)
		if err != nil {
			return nil, err
		}
		doc.secrets = doc.Secrets
		out = append(out, doc.Shown())
	}
	return out, nil
}

// check reports whether there is a reception.
func (s *Senders) check(reception string) error {
	all := s.rt.Receptions()
	if slices.ContainsFunc(all, func(r deed.ReceptionInfo) bool { return r.Name == reception }) {
		return nil
	}
	var names []string
	for _, r := range all {
		names = append(names, r.Name)
	}
	return fmt.Errorf("%w: reception %q; there is %v", deed.ErrUnknown, reception, names)
}

// Put makes a sender, or changes one: its settings are those given, and nothing
// else but its secret, which stays if none is given. Another secret is good
// instead of the former ones at once. It returns a secret that was made, once.
func (s *Senders) Put(ctx context.Context, call deed.Call, reception, name string, to Settings) (Sender, map[string]string, error) {
	if err := errors.Join(s.check(reception), checkName(name), to.check()); err != nil {
		return Sender{}, nil, err
	}
	for {
		now := s.now().UTC().Truncate(time.Microsecond)
		was, rev, err := s.load(ctx, reception, name)
		what, doc := "sender-changed", stored{Sender: Sender{Reception: reception, Name: name, Settings: to, Created: was.Created, By: was.By, Changed: now}, Secrets: was.Secrets}
		if errors.Is(err, ErrNoSender) {
			what, doc.Created, doc.By = "sender-made", now, call.Actor
		} else if err != nil {
			return Sender{}, nil, err
		}
		once := doc.settle(was.proof(), now)
		if err := s.write(ctx, rev, doc); isConflict(err) {
			continue
		} else if err != nil {
			return Sender{}, nil, err
		}
		shown := doc.Sender
		shown.secrets = doc.Secrets
		return shown.Shown(), once, s.audit(ctx, call, what, reception, name)
	}
}

// settle decides which secrets are good. It returns one that was made.
func (d *stored) settle(proof string, now time.Time) (once map[string]string) {
	asked := d.Secret
	d.Secret = ""
	switch {
	case asked != "" && asked != hidden:
		if len(d.Secrets) == 0 || d.Secrets[0].Text != asked {
			d.Secrets = []secret{{Text: asked}}
		}
	case d.proof() == Nothing:
		d.Secrets = nil
	case d.proof() != proof && (d.proof() == Signature || proof == Signature): // a secret of another form
		d.Secrets = nil
	}
	if len(d.Secrets) > 0 || !d.needsSecret() {
		return nil
	}
	made := newSecret(d.proof())
	d.Secrets = []secret{{Text: made}}
	return map[string]string{"secret": made}
}

// Longest is for how long a former secret may be good beside the one that takes its
// place.
const Longest = 30 * 24 * time.Hour

// Rotate gives a sender another secret: the one given, or if that is "" a new one,
// which it returns, once. The former one is good for a while beside it.
func (s *Senders) Rotate(ctx context.Context, call deed.Call, reception, name, to string, overlap time.Duration) (map[string]string, error) {
	if overlap < 0 || overlap > Longest {
		return nil, deed.Invalid{Field: "overlap", Detail: "is a duration from 0s to 720h"}
	}
	for {
		doc, rev, err := s.load(ctx, reception, name)
		if err != nil {
			return nil, err
		}
		next := doc.Settings
		if next.Secret = to; to == hidden {
			next.Secret = " "
		}
		switch {
		case !doc.needsSecret() && to == "":
			return nil, deed.Invalid{Detail: "the sender has no secret that could be rotated"}
		case next.checkSecret() != nil:
			return nil, next.checkSecret()
		}
		now := s.now().UTC().Truncate(time.Microsecond)
		var once map[string]string
		if to == "" {
			to = newSecret(doc.proof())
			once = map[string]string{"secret": to}
		}
		fresh := []secret{{Text: to}}
		if len(doc.Secrets) > 0 && overlap > 0 && doc.Secrets[0].Text != to {
			former := doc.Secrets[0]
			former.Until = now.Add(overlap)
			fresh = append(fresh, former)
		}
		doc.Secrets, doc.Changed = fresh, now
		if err := s.write(ctx, rev, doc); isConflict(err) {
			if once != nil {
				to = ""
			}
			continue
		} else if err != nil {
			return nil, err
		}
		return once, s.audit(ctx, call, "sender-rotated", reception, name)
	}
}

// Delete ends a sender: nothing it sends is taken any more. What it has sent stays.
func (s *Senders) Delete(ctx context.Context, call deed.Call, reception, name string) error {
	for {
		_, rev, err := s.load(ctx, reception, name)
		if err != nil {
			return err
		}
		err = s.rt.Store().Write(ctx, store.Change{Coll: sendersColl, Key: key(reception, name), Rev: rev})
		if isConflict(err) {
			continue
		}
		if err != nil {
			return err
		}
		return s.audit(ctx, call, "sender-deleted", reception, name)
	}
}

func key(reception, name string) string { return reception + "/" + name }

func (s *Senders) load(ctx context.Context, reception, name string) (stored, uint64, error) {
	d, err := s.rt.Store().Get(ctx, sendersColl, key(reception, name))
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrInvalid) {
		return stored{}, 0, fmt.Errorf("%w: %s", ErrNoSender, key(reception, name))
	}
	if err != nil {
		return stored{}, 0, err
	}
	doc, err := parse(d)
	return doc, d.Rev, err
}

func parse(d store.Doc) (doc stored, err error) {
	if err := wire.Unmarshal(d.Data, &doc); err != nil {
		return doc, fmt.Errorf("%w: sender %s: %w", store.ErrCorrupt, d.Key, err)
	}
	return doc, nil
}

func (s *Senders) write(ctx context.Context, rev uint64, doc stored) error {
	data, err := wire.Marshal(doc)
	if err != nil {
		return err
	}
	return s.rt.Store().Write(ctx, store.Change{Coll: sendersColl, Key: key(doc.Reception, doc.Name), Rev: rev, Data: data})
}

func isConflict(err error) bool {
	_, ok := errors.AsType[*store.ConflictError](err)
	return ok
}

// checkName reports whether a sender can be called so.
func checkName(name string) error {
	ok := name != "" && len(name) <= 64 && 'a' <= name[0] && name[0] <= 'z' && !strings.ContainsFunc(name, func(r rune) bool {
		return !('a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-' || r == '.')
	})
	if !ok {
		return deed.Invalid{Field: "name", Detail: "has lower-case letters, digits and hyphens, at most 64, a letter first"}
	}
	return nil
}

// act is the data of the events in "$audit/senders".
type act struct {
	Subject string `json:"subject"` // reception/name
}

// audit records what was done to a sender, with who did it and without settings.
func (s *Senders) audit(ctx context.Context, call deed.Call, typ, reception, name string) error {
	data, err := wire.Marshal(act{key(reception, name)})
	if err != nil {
		return err
	}
	by, err := wire.Marshal(struct {
		Actor       string `json:"actor,omitempty"`
		Correlation string `json:"correlation,omitempty"`
		Source      string `json:"source,omitempty"`
	}{call.Actor, call.Correlation, call.Source})
	if err != nil {
		return err
	}
	_, err = s.rt.Store().Append(ctx, store.Write{
		Stream: auditStream, Expect: store.Any, Events: []store.Event{{ID: store.ID(uuid.Must(uuid.NewV7())), Type: typ, Data: data, Meta: by}},
	})
	if err != nil {
		return fmt.Errorf("deed: it was done to the sender %s, but could not be recorded in the audit stream: %w", key(reception, name), err)
	}
	return nil
}
