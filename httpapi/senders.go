package httpapi

import (
	"net/http"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/inbound"
)

// A Sender is somebody who may send messages to a reception, without its secret.
type Sender = inbound.Sender

// SenderSettings are what a sender sends, and how it shows that it is the one.
type SenderSettings = inbound.Settings

// A Locator says where in a request of a sender something is.
type Locator = inbound.Locator

// SenderList is some senders.
type SenderList struct {
	Senders []Sender `json:"senders"`
}

// A MadeSender is a sender that was made or changed. Once is a secret that was made
// for it: it is never shown again.
type MadeSender struct {
	Sender
	Once map[string]string `json:"once,omitempty"`
}

func (a *api) listSenders(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	all, err := a.senders.List(r.Context(), r.PathValue("reception"))
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, SenderList{all})
}

func (a *api) sender(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	s, err := a.senders.Get(r.Context(), r.PathValue("reception"), r.PathValue("name"))
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, s.Shown())
}

func (a *api) putSender(w http.ResponseWriter, r *http.Request) error {
	call, err := callOf(r)
	if err != nil {
		return err
	}
	var to SenderSettings
	if err := a.decode(w, r, &to); err != nil {
		return err
	}
	s, once, err := a.senders.Put(r.Context(), call, r.PathValue("reception"), r.PathValue("name"), to)
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	return answer(w, http.StatusOK, MadeSender{s, once})
}

func (a *api) deleteSender(w http.ResponseWriter, r *http.Request) error {
	call, err := callOf(r)
	if err != nil {
		return err
	}
	if err := a.senders.Delete(r.Context(), call, r.PathValue("reception"), r.PathValue("name")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// usualOverlap is how long a former secret is good if nobody says.
const usualOverlap = 24 * time.Hour

func (a *api) rotateSender(w http.ResponseWriter, r *http.Request) error {
	call, err := callOf(r)
	if err != nil {
		return err
	}
	var body struct {
		Secret  string `json:"secret"`
		Overlap string `json:"overlap"`
	}
	if err := a.decode(w, r, &body); err != nil {
		return err
	}
	overlap := usualOverlap
	if body.Overlap != "" {
		if overlap, err = time.ParseDuration(body.Overlap); err != nil {
			return deed.Invalid{Field: "overlap", Detail: "is a duration from 0s to 720h, for example 24h"}
		}
	}
	once, err := a.senders.Rotate(r.Context(), call, r.PathValue("reception"), r.PathValue("name"), body.Secret, overlap)
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	return answer(w, http.StatusOK, Secrets{once})
}

// A TriedMessage is what would come of a message.
type TriedMessage struct {
	ID       string   `json:"id"`
	Source   string   `json:"source"`
	Type     string   `json:"type"`
	Subject  string   `json:"subject,omitempty"`
	Commands []string `json:"commands"`        // that would be asked, for example "order.pay on order/o-17"
	Error    string   `json:"error,omitempty"` // why none can be made of it
}

// TriedMessages are what would come of a request of a sender.
type TriedMessages struct {
	Messages []TriedMessage `json:"messages"`
}

// testSender says what would come of a request like those of a sender: which
// messages are in it, and which commands follow. Nothing is stored.
func (a *api) testSender(w http.ResponseWriter, r *http.Request) error {
	reception := r.PathValue("reception")
	s, err := a.senders.Get(r.Context(), reception, r.PathValue("name"))
	if err != nil {
		return err
	}
	body, err := a.body(w, r)
	if err != nil {
		return err
	}
	messages, err := s.Decode(r.Header, body)
	if err != nil {
		return err
	}
	out := TriedMessages{Messages: []TriedMessage{}}
	for _, m := range messages {
		t := TriedMessage{ID: m.ID, Source: m.Source, Type: m.Type, Subject: m.Subject, Commands: []string{}}
		commands, err := a.rt.PreviewMessage(r.Context(), reception, m)
		if err != nil {
			t.Error = plain(err)
		} else {
			t.Commands = commands
		}
		out.Messages = append(out.Messages, t)
	}
	return answer(w, http.StatusOK, out)
}
