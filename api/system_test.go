package api_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"github.com/mathub/webhooks/api"
	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/internal/searchattr"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/worker"
	"github.com/mathub/webhooks/workflows/temporaltest"
)

// received is what a receiver got.
type received struct {
	header http.Header
	body   string
}

// system is the API with a worker on a real Temporal server, and a receiver.
type system struct {
	*testAPI
	temporal   client.Client
	attributes *searchattr.Attributes
	receiver   string

	mu      sync.Mutex
	got     []received
	respond http.HandlerFunc
}

func newSystem(t testing.TB) *system {
	t.Helper()
	return newSystemWith(t, nil)
}

func newSystemWith(t testing.TB, schedule webhook.Schedule) *system {
	t.Helper()
	temporal := temporaltest.New(t)
	// The namespace has no search attributes, and the API believes that it has: everything works all the same.
	attributes := searchattr.Assume()
	s := &system{testAPI: newAPI(t, temporal, func(c *api.Config) { c.Attributes = attributes }), temporal: temporal, attributes: attributes}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.got = append(s.got, received{r.Header.Clone(), string(body)})
		respond := s.respond
		s.mu.Unlock()
		if respond != nil {
			respond(w, r)
		}
	}))
	t.Cleanup(server.Close)
	s.receiver = server.URL
	outbound := egress.New(egress.Options{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, AllowHTTP: true})
	t.Cleanup(outbound.Close)
	w, err := worker.New(temporal, delivery.Config{
		Pool: s.pool, Egress: outbound, Keyset: s.keyset, Version: "test", Logger: slog.New(slog.DiscardHandler), Schedule: schedule,
	})
	require.NoError(t, err)
	t.Cleanup(w.Stop)
	require.NoError(t, w.Start())
	return s
}

func (s *system) answer(respond http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.respond = respond
}

func (s *system) requests() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]received(nil), s.got...)
}

// subscribe makes a webhook that leads to the given URL, which is the receiver's when empty.
func (s *system) subscribe(key, url string) string {
	s.t.Helper()
	if url == "" {
		url = s.receiver + "/hook"
	}
	got := s.do("POST", webhooksPath, key, map[string]any{"url": url, "events": []string{"post.created"}, "secret": "s3cret"})
	require.Equal(s.t, http.StatusCreated, got.status, "%s", got.body)
	var w mathub.Webhook
	got.into(s.t, &w)
	return w.ID
}

func (s *system) webhook(key, id string) (w mathub.Webhook) {
	s.t.Helper()
	got := s.do("GET", webhooksPath+"/"+id, key, nil)
	require.Equal(s.t, http.StatusOK, got.status, "%s", got.body)
	got.into(s.t, &w)
	return w
}

func (s *system) deliveries(key, id string) (list []mathub.Delivery) {
	s.t.Helper()
	got := s.do("GET", webhooksPath+"/"+id+"/deliveries", key, nil)
	require.Equal(s.t, http.StatusOK, got.status, "%s", got.body)
	got.into(s.t, &list)
	return list
}

// tested tests a webhook, and again while a busy engine does nothing.
func (s *system) tested(key, id string) (got answer) {
	s.t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); ; {
		got = s.do("POST", webhooksPath+"/"+id+"/test", key, nil)
		if got.status != http.StatusServiceUnavailable || !strings.Contains(string(got.body), "nothing was done") || time.Now().After(deadline) {
			return got
		}
	}
}

func (s *system) test(key, id string) (d mathub.Delivery) {
	s.t.Helper()
	got := s.tested(key, id)
	require.Equal(s.t, http.StatusOK, got.status, "%s", got.body)
	got.into(s.t, &d)
	return d
}

func (s *system) emit(body string) (r mathub.Receipt) {
	s.t.Helper()
	got := s.do("POST", eventsPath, serviceToken, body)
	require.Equal(s.t, http.StatusAccepted, got.status, "%s", got.body)
	got.into(s.t, &r)
	require.Equal(s.t, "event-"+r.ID, r.WorkflowID)
	return r
}
