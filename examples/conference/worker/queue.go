package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// A message is one of the queue.
type message struct {
	Token      string `json:"token"`
	Deliveries int    `json:"deliveries"` // this one included
	Event      event  `json:"event"`
}

// An event is a public event, as far as the worker needs it.
type event struct {
	ID       string    `json:"id"`
	Type     string    `json:"type"`
	Time     time.Time `json:"time"`
	Sequence string    `json:"sequence"` // grows, compared as text
	Data     struct {
		Attendee     string `json:"attendee"`
		Email        string `json:"email"`
		Confirmation string `json:"confirmation"`
		Reason       string `json:"reason"`
	} `json:"data"`
}

// A settling says what became of a message.
type settling struct {
	Token  string `json:"token"`
	After  string `json:"after,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// A queue is one that is served by deed. It is HTTP and JSON, in any language.
type queue struct {
	base string
	time time.Duration
	http *http.Client
}

// newQueue is the queue of a subscription, named "topic/name".
func newQueue(server, name string, lock time.Duration) *queue {
	topic, name, _ := strings.Cut(name, "/")
	return &queue{fmt.Sprintf("%s/v1/topics/%s/subscriptions/%s/", server, topic, name), lock, &http.Client{Timeout: time.Minute}}
}

// lock takes a message; if there is none it waits for one. Others would have to
// wait for what this one does, and their time would run out.
func (q *queue) lock(ctx context.Context) ([]message, error) {
	var out struct {
		Messages []message `json:"messages"`
	}
	err := q.post(ctx, "lock", map[string]any{"limit": 1, "lock": q.time.String(), "wait": "20s", "consumer": fmt.Sprintf("worker-%d", os.Getpid())}, &out)
	return out.Messages, err
}

// settle says what became of a message. That its lock is lost is an error: it is
// somebody else's.
func (q *queue) settle(ctx context.Context, what string, s settling) error {
	return q.post(ctx, what, s, nil)
}

func (q *queue) post(ctx context.Context, what string, body, out any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, q.base+what, bytes.NewReader(data))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	if key := os.Getenv("DEED_KEY"); key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := q.http.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	switch {
	case err != nil:
		return err
	case resp.StatusCode/100 != 2:
		return fmt.Errorf("%s: %s %s", what, resp.Status, answer)
	case out == nil:
		return nil
	}
	return json.Unmarshal(answer, out)
}
