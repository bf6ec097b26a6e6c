package main

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mathub/webhooks/webhook"
)

// receiverMaxBody bounds what the receiver reads: the largest event, and its envelope.
const receiverMaxBody = webhook.MaxEventBytes + 64<<10

type receiverCommand struct {
	Port   int           `default:"9000" help:"Port on 127.0.0.1."`
	Secret string        `help:"The webhook's secret, to check the signatures with."`
	Status int           `default:"204" help:"The status to answer, such as 500 to see how failures are handled."`
	Delay  time.Duration `help:"The delay before the answer, such as 10s to see a timeout."`
}

// Run prints what arrives until Ctrl-C.
func (c *receiverCommand) Run() error {
	if c.Status < 200 || c.Status > 999 {
		return errors.New("--status must be a final HTTP status, from 200 on")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(c.Port))
	listener, err := net.Listen("tcp", addr) //nolint:noctx // it does not wait
	if err != nil {
		return fmt.Errorf("the receiver cannot listen on %s (%w): choose another port with --port", addr, cause(err))
	}
	fmt.Printf("Waiting for webhooks on http://%s/ and answering %d. Ctrl-C stops.\n", listener.Addr(), c.Status)
	server := &http.Server{
		Handler:           &receiver{receiverCommand: c, out: os.Stdout},
		ReadHeaderTimeout: 10 * time.Second,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return server.Close()
	}
}

type receiver struct {
	*receiverCommand
	mu    sync.Mutex
	out   io.Writer
	count int
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, request.Body, receiverMaxBody))
	verdicts, genuine := []string{"The body could not be read."}, false
	if err == nil {
		verdicts, genuine = r.verdicts(request.Header, body, time.Now())
	}
	r.print(request, body, verdicts)
	if r.Delay > 0 {
		select {
		case <-time.After(r.Delay):
		case <-request.Context().Done():
			return
		}
	}
	if !genuine {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if nonce := webhook.NonceOf(body); nonce != "" && r.Status/100 == 2 {
		_, _ = io.WriteString(w, nonce) // yes, it wants the webhook's deliveries
		return
	}
	w.WriteHeader(r.Status)
}

func (r *receiver) print(request *http.Request, body []byte, verdicts []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count++
	var b strings.Builder
	fmt.Fprintf(&b, "\n#%d  %s  %s %s\n", r.count, time.Now().Format("15:04:05.000"), request.Method, request.URL)
	for _, name := range slices.Sorted(maps.Keys(request.Header)) {
		for _, value := range request.Header[name] {
			fmt.Fprintf(&b, "  %s: %s\n", name, value)
		}
	}
	fmt.Fprintf(&b, "\n  %s\n\n", body)
	for _, line := range verdicts {
		fmt.Fprintln(&b, "  "+line)
	}
	_, _ = io.WriteString(r.out, b.String()) // for people: nothing hangs on it
}

// maxClockSkew is how old a signed delivery may be, or how far ahead (Standard Webhooks, "Verifying webhook authenticity").
const maxClockSkew = 5 * time.Minute

// verdicts say of each signature whether it is right, as a receiver in production would find out. genuine: the request is to
// be taken. The Standard Webhooks signature decides, as the other covers neither the event's id nor the time.
func (r *receiver) verdicts(header http.Header, body []byte, now time.Time) (lines []string, genuine bool) {
	simple, standard := header.Get("X-Mathub-Signature"), header.Get("Webhook-Signature")
	signed := simple != "" || standard != ""
	switch {
	case r.Secret == "" && signed:
		return []string{"Signed. Start the receiver with --secret to check the signatures."}, true
	case r.Secret == "":
		return []string{"Not signed: the webhook has no secret."}, true
	case !signed:
		return []string{"✗ Not signed: the webhook has no secret. Refused with 401."}, false
	}
	verdict := func(name string, ok bool, wrong string) {
		if ok {
			lines = append(lines, "✓ "+name+" is valid.")
		} else {
			lines = append(lines, "✗ "+name+" is INVALID: "+wrong)
		}
	}
	seconds, err := strconv.ParseInt(header.Get("Webhook-Timestamp"), 10, 64)
	at := time.Unix(seconds, 0)
	right := false
	if err == nil {
		expected := webhook.SignStandard(r.Secret, header.Get("Webhook-Id"), at, body)
		for _, signature := range strings.Fields(standard) {
			right = right || hmac.Equal([]byte(signature), []byte(expected))
		}
	}
	verdict("X-Mathub-Signature", hmac.Equal([]byte(simple), []byte(webhook.Sign(r.Secret, body))), "the secret differs, or the body was changed.")
	verdict("webhook-signature", right, "the secret differs, or the body, webhook-id or webhook-timestamp was changed.")
	genuine = right && now.Sub(at).Abs() <= maxClockSkew
	switch {
	case right && !genuine:
		lines = append(lines, "✗ webhook-timestamp is more than 5 minutes off: a replay or a wrong clock. Refused with 401.")
	case !genuine:
		lines = append(lines, "Refused with 401.")
	}
	return lines, genuine
}
