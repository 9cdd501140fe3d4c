// Command inventory is a neighbour of the shop: it hears by a webhook what is
// ordered, and keeps figures of how many pieces of each product are promised and
// shipped. It uses nothing of deed: a webhook is HTTP, JSON and a signature.
//
//	deed serve --webhook-hosts 127.0.0.1:9200
//	deed subscription put domain-events inventory --webhook http://127.0.0.1:9200 --start beginning
//	WEBHOOK_SECRET=whsec_... go run ./examples/orders/inventory
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:9200", "address to listen on")
	path := flag.String("db", "inventory.db", "file of the figures")
	flag.Parse()
	hook, err := standardwebhooks.NewWebhook(os.Getenv("WEBHOOK_SECRET"))
	if err != nil {
		log.Fatalf("WEBHOOK_SECRET is what `deed subscription put` has printed: %v", err)
	}
	f, err := openFigures(*path)
	if err != nil {
		log.Fatal(err)
	}
	ln, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("http://" + ln.Addr().String())
	mux := http.NewServeMux()
	mux.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) { take(w, r, hook, f) })
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) { show(w, f) })
	log.Fatal((&http.Server{Handler: mux, ReadTimeout: 10 * time.Second}).Serve(ln))
}

// An event is a public event of the shop, as far as the inventory needs it.
type event struct {
	ID   string `json:"id"`
	Type string `json:"type"`
	Data struct {
		Order    string `json:"order"`
		Product  string `json:"product"`
		Quantity int64  `json:"quantity"`
	} `json:"data"`
}

// take takes in what a webhook brings, and answers when it is stored.
func take(w http.ResponseWriter, r *http.Request, hook *standardwebhooks.Webhook, f *figures) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 4<<20))
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if err := hook.Verify(body, r.Header); err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	events, err := parse(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	for _, e := range events {
		if err := f.take(e); err != nil {
			log.Printf("%s: %v", e.ID, err)
			http.Error(w, "it could not be stored", http.StatusServiceUnavailable)
			return
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// parse reads one event, or several.
func parse(body []byte) (events []event, err error) {
	if bytes.HasPrefix(bytes.TrimSpace(body), []byte("[")) {
		err = json.Unmarshal(body, &events)
	} else {
		events = make([]event, 1)
		err = json.Unmarshal(body, &events[0])
	}
	for _, e := range events {
		if e.ID == "" {
			err = errors.Join(err, errors.New("an event has no id"))
		}
	}
	return events, err
}

func show(w http.ResponseWriter, f *figures) {
	all, err := f.all()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(all) // whoever asked may be gone
}
