// Command fraudcheck judges transfers of credits. It hears of them by a webhook,
// and says what it thinks by a command. It keeps nothing: what it is told again it
// judges again, under the same key, and that is the same command.
//
//	CREDITS_FRAUD_CHECK=10s deed serve --webhook-hosts 127.0.0.1:9100
//	deed subscription put credit-events fraud-check --webhook http://127.0.0.1:9100 --type credit-transfer.requested.v1
//	WEBHOOK_SECRET=whsec_... go run ./examples/credits/fraudcheck --limit 50000
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:9100", "address to listen on")
	server := flag.String("server", "http://localhost:8080", "where deed is served; DEED_KEY is the key to show")
	limit := flag.Int64("limit", 500_00, "minor units from which on a transfer is suspicious")
	flag.Parse()
	hook, err := standardwebhooks.NewWebhook(os.Getenv("WEBHOOK_SECRET"))
	if err != nil {
		log.Fatalf("WEBHOOK_SECRET is what `deed subscription put` has printed: %v", err)
	}
	ln, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("http://" + ln.Addr().String())
	c := &checker{server: *server, limit: *limit, hook: hook, http: &http.Client{Timeout: 10 * time.Second}}
	log.Fatal((&http.Server{Handler: c, ReadTimeout: 10 * time.Second}).Serve(ln))
}

// A checker judges transfers.
type checker struct {
	server string
	limit  int64
	hook   *standardwebhooks.Webhook
	http   *http.Client
}

// A transfer is what the checker is told of.
type transfer struct {
	Transfer string `json:"transfer"`
	Amount   struct {
		Amount   int64  `json:"amount"`
		Currency string `json:"currency"`
	} `json:"amount"`
}

// A judgement is what it says.
type judgement struct {
	Suspicious bool   `json:"suspicious"`
	Reason     string `json:"reason,omitempty"`
}

// ServeHTTP takes an event. It answers when the judgement is known to deed; else
// the event comes again.
func (c *checker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if err := c.hook.Verify(body, r.Header); err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	var e struct {
		ID   string   `json:"id"`
		Type string   `json:"type"`
		Data transfer `json:"data"`
	}
	if err := json.Unmarshal(body, &e); err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	if e.Type == "credit-transfer.requested.v1" {
		if err := c.say(r.Context(), e.ID, e.Data.Transfer, c.judge(e.Data)); err != nil {
			log.Print(err)
			http.Error(w, "it could not be said", http.StatusBadGateway)
			return
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// judge says of the same always the same.
func (c *checker) judge(t transfer) judgement {
	if t.Amount.Amount < c.limit {
		return judgement{}
	}
	return judgement{true, fmt.Sprintf("%d.%02d %s is much", t.Amount.Amount/100, t.Amount.Amount%100, t.Amount.Currency)}
}

// say asks the command that tells deed.
func (c *checker) say(ctx context.Context, event, transfer string, j judgement) error {
	body, err := json.Marshal(j)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.server+"/v1/credit-transfer/"+url.PathEscape(transfer)+"/judge", bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Idempotency-Key", "fraud-check:"+event)
	r.Header.Set("X-Actor", "fraudcheck")
	r.Header.Set("X-Causation-Id", event)
	if key := os.Getenv("DEED_KEY"); key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	switch {
	case err != nil:
		return err
	case resp.StatusCode/100 == 2:
		return nil
	case resp.StatusCode == http.StatusUnprocessableEntity: // it is over: a person was faster
		log.Printf("%s: %s", transfer, answer)
		return nil
	}
	return fmt.Errorf("%s: %s %s", transfer, resp.Status, answer)
}
