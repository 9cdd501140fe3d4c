// Command receiver is the least that a receiver of webhooks has to do: to look at
// the signature, to pass over what it has seen, and to answer when it has the rest.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"sync"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

func main() {
	hook, err := standardwebhooks.NewWebhook(os.Getenv("SECRET"))
	if err != nil {
		log.Fatal(err)
	}
	var mu sync.Mutex
	seen := map[string]bool{} // keep it in your database
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil || hook.Verify(body, r.Header) != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, event := range eventsOf(body) {
			if !seen[event.ID] {
				seen[event.ID] = true
				fmt.Println(event.Type, event.Subject, string(event.Data))
			}
		}
		w.WriteHeader(http.StatusNoContent)
	})))
}

type event struct {
	ID, Type, Subject string
	Data              json.RawMessage
}

// eventsOf reads what a delivery has: one event or, with --batch, a list of them.
func eventsOf(body []byte) (all []event) {
	if json.Unmarshal(body, &all) != nil {
		all = make([]event, 1)
		json.Unmarshal(body, &all[0]) // it is signed: what it is, deed has written
	}
	return all
}
