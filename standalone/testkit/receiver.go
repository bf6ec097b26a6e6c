package testkit

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/webhook"
)

// awaitPatience is how long Await waits.
const awaitPatience = 3 * time.Minute

// Request is a request that a Receiver got.
type Request struct {
	Method, Path string
	Header       http.Header
	Body         []byte    // as it came
	At           time.Time // when its headers had come
}

// EventID is the webhook-id header, the receiver's idempotency key.
func (r Request) EventID() string { return r.Header.Get("Webhook-Id") }

// Answer is how a receiver answers one request, whose body it has already read and recorded.
type Answer = http.HandlerFunc

// Receiver is an HTTP server that records what it gets. It answers 204 unless configured otherwise, and webhook.verify events, which
// it does not record, with their nonce.
type Receiver struct {
	addr   string
	listen func(addr string) (net.Listener, error)
	ended  chan struct{} // closed when the receiver closes: hanging answers end

	mu       sync.Mutex
	server   *httptest.Server     // nil while connections are refused
	requests map[string][]Request // by path
	changed  chan struct{}        // closed and made again with each request, and with each connection's begin and end
	answers  map[string][]Answer
	open     map[net.Conn]bool // the connections that have not ended
}

// NewReceiver starts a receiver on a free loopback port. The test's end ends it.
func NewReceiver(t testing.TB) *Receiver {
	t.Helper()
	r := newReceiver(func(addr string) (net.Listener, error) {
		return net.Listen("tcp4", addr) //nolint:noctx // it does not wait
	})
	for tries := 1; ; tries++ {
		port, err := freeport.Find() // outgoing connections cannot take it while the receiver refuses
		if err != nil {
			t.Fatal(err)
		}
		r.addr = fmt.Sprintf("127.0.0.1:%d", port)
		if err = r.Reopen(); err == nil {
			break
		}
		if tries == 5 { // another program may take a port between the look and the use
			t.Fatalf("start a receiver: %v", err)
		}
	}
	t.Cleanup(r.Close)
	return r
}

// NewReceiverAt starts a receiver at an address that listen listens on, such as another host's. The test's end ends it.
func NewReceiverAt(t testing.TB, addr string, listen func(addr string) (net.Listener, error)) *Receiver {
	t.Helper()
	r := newReceiver(listen)
	r.addr = addr
	if err := r.Reopen(); err != nil {
		t.Fatalf("start a receiver: %v", err)
	}
	t.Cleanup(r.Close)
	return r
}

func newReceiver(listen func(addr string) (net.Listener, error)) *Receiver {
	return &Receiver{
		listen:   listen,
		ended:    make(chan struct{}),
		requests: map[string][]Request{},
		changed:  make(chan struct{}),
		answers:  map[string][]Answer{},
		open:     map[net.Conn]bool{},
	}
}

// Close ends the receiver: connections to it are refused from then on. What it recorded stays.
func (r *Receiver) Close() {
	r.mu.Lock()
	select {
	case <-r.ended:
	default:
		close(r.ended)
	}
	r.mu.Unlock()
	r.Refuse()
}

// Refuse closes the receiver's port and cuts its connections, as the end of its process would: what is in progress gets no
// answer, and who connects is refused, until Reopen.
func (r *Receiver) Refuse() {
	r.mu.Lock()
	server := r.server
	r.server = nil
	r.mu.Unlock()
	if server == nil {
		return
	}
	_ = server.Listener.Close() // first, so that no connection slips in
	server.CloseClientConnections()
	server.Close()
}

// Reopen listens again, on the same port, after Refuse.
func (r *Receiver) Reopen() error {
	listener, err := r.listen(r.addr)
	if err != nil {
		return err
	}
	server := httptest.NewUnstartedServer(r)
	_ = server.Listener.Close() // one on a port of its choice
	server.Listener = listener
	server.Config.ConnState = r.track
	server.Start()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.server = server
	return nil
}

// URL is the address of a path, which begins with a slash. A path of its own for each webhook tells them apart.
func (r *Receiver) URL(path string) string { return "http://" + r.addr + path }

// Answer sets how requests to path are answered: the next by the first answer, and so on, and all that follow by the
// last.
func (r *Receiver) Answer(path string, answers ...Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers[path] = answers
}

// Requests are those that path has got until now, in the order of their arrival.
func (r *Receiver) Requests(path string) []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Request(nil), r.requests[path]...)
}

// All are the requests to each path until now.
func (r *Receiver) All() map[string][]Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[string][]Request, len(r.requests))
	for path, requests := range r.requests {
		all[path] = append([]Request(nil), requests...)
	}
	return all
}

// Count is how many requests all paths have got until now.
func (r *Receiver) Count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	count := 0
	for _, requests := range r.requests {
		count += len(requests)
	}
	return count
}

// Await waits until path has got n requests, for awaitPatience, and returns them all. Fewer fail the test.
func (r *Receiver) Await(t testing.TB, path string, n int) []Request {
	t.Helper()
	return r.AwaitWithin(t, path, n, awaitPatience)
}

// AwaitWithin is Await with another limit.
func (r *Receiver) AwaitWithin(t testing.TB, path string, n int, limit time.Duration) []Request {
	t.Helper()
	timeout := time.After(limit)
	for {
		r.mu.Lock()
		got, changed := len(r.requests[path]), r.changed
		r.mu.Unlock()
		if got >= n {
			return r.Requests(path)
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("%s got %d of %d requests within %s", path, got, n, limit)
		}
	}
}

// ServeHTTP records a request and answers it.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	at := time.Now()
	var body bytes.Buffer
	_, err := io.Copy(&body, request.Body)
	if err != nil {
		return // broken off by the sender: nothing has arrived
	}
	if nonce := webhook.NonceOf(body.Bytes()); nonce != "" {
		_, _ = io.WriteString(w, nonce)
		return
	}
	path := request.URL.Path
	r.mu.Lock()
	r.requests[path] = append(r.requests[path], Request{
		Method: request.Method, Path: path, Header: request.Header.Clone(), Body: body.Bytes(), At: at,
	})
	r.change()
	var answer Answer
	switch answers := r.answers[path]; len(answers) {
	case 0:
	case 1:
		answer = answers[0]
	default:
		answer = answers[0]
		r.answers[path] = answers[1:]
	}
	r.mu.Unlock()
	if answer == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	answer(w, request)
}

// change tells all that wait. The caller holds mu.
func (r *Receiver) change() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// Status answers with a status and no body.
func Status(code int) Answer {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// Content answers with a status and a body.
func Content(code int, body string) Answer {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

// Redirect answers with a redirecting status.
func Redirect(code int, location string) Answer {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", location)
		w.WriteHeader(code)
	}
}

// RetryAfter answers with a status and a Retry-After of whole seconds.
func RetryAfter(code int, after time.Duration) Answer {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", strconv.Itoa(int(after/time.Second)))
		w.WriteHeader(code)
	}
}

// Slow waits before it answers as then does.
func (r *Receiver) Slow(delay time.Duration, then Answer) Answer {
	return func(w http.ResponseWriter, request *http.Request) {
		if r.wait(request, delay) {
			then(w, request)
		}
	}
}

// Hang accepts a request and never answers.
func (r *Receiver) Hang() Answer {
	return func(_ http.ResponseWriter, request *http.Request) {
		r.wait(request, time.Hour)
	}
}

// Until holds each answer back until gate is closed, and then answers as then does.
func (r *Receiver) Until(gate <-chan struct{}, then Answer) Answer {
	return func(w http.ResponseWriter, request *http.Request) {
		select {
		case <-gate:
			then(w, request)
		case <-request.Context().Done():
		case <-r.ended:
		}
	}
}

// Drip answers 200 and then sends one byte of a body each interval, without end.
func (r *Receiver) Drip(interval time.Duration) Answer {
	return func(w http.ResponseWriter, request *http.Request) {
		w.WriteHeader(http.StatusOK)
		controller := http.NewResponseController(w)
		for {
			if _, err := io.WriteString(w, "."); err != nil || controller.Flush() != nil || !r.wait(request, interval) {
				return
			}
		}
	}
}

// BreakOff closes the connection without an answer.
func BreakOff() Answer {
	return func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
}

// Reset cuts the connection by a TCP reset, without an answer.
func Reset() Answer {
	return func(w http.ResponseWriter, _ *http.Request) {
		connection, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		if tcp, ok := connection.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // what is closed with linger 0 is reset
		}
		_ = connection.Close()
	}
}

// wait returns false when the request or the receiver ended before delay had passed.
func (r *Receiver) wait(request *http.Request, delay time.Duration) bool {
	select {
	case <-time.After(delay):
		return true
	case <-request.Context().Done():
	case <-r.ended:
	}
	return false
}
