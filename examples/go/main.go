// A webhook receiver in Go: go run . whsec_… [PORT]
//
// It verifies the Standard Webhooks signature, which covers the event's id and the time: a request that is sent again under
// another webhook-id, or later, is refused.
package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// maxBody is more than any event: 256 KiB, and its envelope.
const maxBody = 300 << 10

type event struct {
	id, body string
}

// todo is what is to be done after the answer. In production: a table or a queue that survives a crash, written before
// the answer.
var todo = make(chan event, 1000)

func main() {
	if len(os.Args) < 2 || strings.TrimPrefix(os.Args[1], "whsec_") == "" { // anyone could sign with an empty secret
		log.Fatal("usage: go run . whsec_… [PORT]")
	}
	secret, port := os.Args[1], cmp.Or(os.Getenv("PORT"), "9000")
	if len(os.Args) > 2 {
		port = os.Args[2]
	}
	go work()
	webhook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("POST /", receive(webhook))
	server := &http.Server{Addr: "127.0.0.1:" + port, ReadTimeout: 10 * time.Second}
	log.Fatalf("%v; give another port as PORT or as the last argument", server.ListenAndServe())
}

func receive(webhook *standardwebhooks.Webhook) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody)) // the raw bytes: what was signed
		// Verify also refuses where webhook-timestamp is 5 minutes off.
		if err != nil || webhook.Verify(body, r.Header) != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		select {
		case todo <- event{r.Header.Get("webhook-id"), string(body)}:
			var v struct{ Data struct{ Nonce string } }
			if r.Header.Get("X-Mathub-Event") == "webhook.verify" && json.Unmarshal(body, &v) == nil {
				fmt.Fprint(w, v.Data.Nonce) // yes, this endpoint wants the webhook's deliveries
			}
		default:
			w.WriteHeader(http.StatusServiceUnavailable) // too much to do: it is attempted again later
		}
	}
}

func work() {
	seen := map[string]bool{} // in production: a unique key in the database, set in the transaction that does the work
	for e := range todo {
		if seen[e.id] {
			continue // the same webhook-id may come twice: do the work once
		}
		seen[e.id] = true
		var envelope struct {
			Event string
			Data  json.RawMessage
		}
		if err := json.Unmarshal([]byte(e.body), &envelope); err != nil {
			log.Print(err)
			continue
		}
		fmt.Println(e.id, envelope.Event, string(envelope.Data))
	}
}
