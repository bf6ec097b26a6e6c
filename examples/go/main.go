// A webhook receiver in Go: go run . SECRET [PORT]
//
// It verifies X-Mathub-Signature at / and the Standard Webhooks signature at /standard: you need one of the two.
package main

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
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
	if len(os.Args) < 2 {
		log.Fatal("usage: go run . SECRET [PORT]")
	}
	secret, port := os.Args[1], cmp.Or(os.Getenv("PORT"), "9000")
	if len(os.Args) > 2 {
		port = os.Args[2]
	}
	go work()
	http.HandleFunc("POST /{$}", receive(func(body []byte, header http.Header) bool {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(body)
		expected := hex.EncodeToString(mac.Sum(nil))
		return hmac.Equal([]byte(expected), []byte(header.Get("X-Mathub-Signature"))) // in constant time, unlike ==
	}))
	http.HandleFunc("POST /standard", receive(func(body []byte, header http.Header) bool {
		webhook, err := standardwebhooks.NewWebhook(secret)
		return err == nil && webhook.Verify(body, header) == nil // an error also where webhook-timestamp is 5 minutes off
	}))
	server := &http.Server{Addr: "127.0.0.1:" + port, ReadTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}

func receive(genuine func(body []byte, header http.Header) bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody)) // the raw bytes: what was signed
		if err != nil || !genuine(body, r.Header) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		select {
		case todo <- event{r.Header.Get("webhook-id"), string(body)}:
			w.WriteHeader(http.StatusNoContent)
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
