package emit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/webhook"
)

// service answers as it is told, the last answer for ever, and notes what it is sent.
type service struct {
	path    string // after …/events
	mu      sync.Mutex
	answers []http.HandlerFunc
	bodies  []string
	at      []time.Time
}

// accept answers with a receipt of the event that it is sent.
func accept(w http.ResponseWriter, r *http.Request) {
	var sent webhook.Event
	_ = json.NewDecoder(r.Body).Decode(&sent) // what is no event gets a receipt of none
	w.WriteHeader(http.StatusAccepted)
	_, _ = fmt.Fprintf(w, `{"id":%q,"workflowId":"event-e1","duplicate":true}`, sent.ID)
}

func refuse(status int, retryAfter, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		if strings.HasPrefix(body, "{") {
			w.Header().Set("Content-Type", "application/problem+json")
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func newService(t *testing.T, answers ...http.HandlerFunc) (*service, *emit.HTTP) {
	return newServiceAt(t, "", answers...)
}

func newServiceAt(t *testing.T, path string, answers ...http.HandlerFunc) (*service, *emit.HTTP) {
	s := &service{path: path, answers: answers}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, &emit.HTTP{URL: server.URL + "/", Token: "t0ken"}
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if r.Method != http.MethodPost || r.URL.Path != "/api/internal/v1/events"+s.path || r.Header.Get("Authorization") != "Bearer t0ken" || r.Header.Get("Content-Type") != "application/json" {
		w.WriteHeader(http.StatusTeapot)
		return
	}
	s.mu.Lock()
	s.bodies, s.at = append(s.bodies, string(body)), append(s.at, time.Now())
	answer := s.answers[0]
	if len(s.answers) > 1 {
		s.answers = s.answers[1:]
	}
	s.mu.Unlock()
	r.Body = io.NopCloser(bytes.NewReader(body))
	answer(w, r)
}

func event(t *testing.T) webhook.Event {
	e, err := emit.New(emit.PostCreated{PostID: "p1"})
	require.NoError(t, err)
	return e
}

func TestHTTPEmitsAgainWithTheSameIDUntilItIsAccepted(t *testing.T) {
	t.Parallel()
	s, door := newService(t, hangUp, refuse(503, "", "away"), refuse(408, "", "slow"), refuse(502, "", "<html>"), refuse(429, "1", ""), accept)
	e := event(t)
	e.ID, e.Timestamp = "", "" // it gets one id, not one a request
	receipt, err := door.Event(t.Context(), e)
	require.NoError(t, err)
	require.True(t, webhook.ValidID(receipt.ID))
	require.Equal(t, emit.Receipt{ID: receipt.ID, WorkflowID: "event-e1", Duplicate: true}, receipt)
	require.Len(t, s.bodies, 6)
	for _, body := range s.bodies {
		require.Equal(t, s.bodies[0], body)
	}
	require.Contains(t, s.bodies[0], `"id":"`+receipt.ID)
	require.GreaterOrEqual(t, s.at[5].Sub(s.at[4]), time.Second, "Retry-After is honoured")
	require.Less(t, s.at[4].Sub(s.at[0]), 3*time.Second)
}

func TestHTTPGivesUpWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	_, door := newService(t, refuse(503, "60", `{"detail":"Temporal does not answer."}`))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := door.Event(ctx, event(t))
	require.Less(t, time.Since(began), 2*time.Second)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "Temporal does not answer.")
	require.False(t, emit.IsInvalid(err))
	var refused *emit.RefusedError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, time.Minute, refused.RetryAfter)
}

func TestHTTPDoesNotTryAgainWhatCannotPass(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status  int
		invalid bool
	}{{400, true}, {401, false}, {403, false}, {404, false}, {413, true}, {415, true}, {422, true}, {301, false}} {
		s, door := newService(t, refuse(c.status, "", `{"detail":"No.","errors":[{"field":"event","message":"is new here"}]}`))
		_, err := door.Event(t.Context(), event(t))
		require.ErrorContains(t, err, "No. event: is new here")
		require.Equal(t, c.invalid, emit.IsInvalid(err), "%d", c.status)
		require.Len(t, s.bodies, 1, "%d", c.status)
	}

	s, door := newService(t, accept)
	for _, e := range []webhook.Event{{}, {Type: webhook.Mention, Data: json.RawMessage(`{}`)}, {Type: webhook.Test, Data: json.RawMessage(`{}`)}} {
		_, err := door.Event(t.Context(), e)
		var invalid *webhook.InvalidError
		require.ErrorAs(t, err, &invalid)
		require.True(t, emit.IsInvalid(err))
	}
	require.Empty(t, s.bodies, "found out here")

	for _, url := range []string{"", "127.0.0.1:8080", "ftp://127.0.0.1", "http://", "http://%zz"} {
		_, err := (&emit.HTTP{URL: url}).Event(t.Context(), event(t))
		require.ErrorContains(t, err, "URL must be", url)
	}
	door.Token = "t0\nken"
	_, err := door.Event(t.Context(), event(t))
	require.ErrorContains(t, err, "the service token has a line break")
	require.NotContains(t, err.Error(), "t0")

	s, door = newService(t, refuse(202, "", "<html>"), accept)
	_, err = door.Try(t.Context(), event(t))
	require.ErrorContains(t, err, "not from the service")
	require.False(t, emit.IsInvalid(errors.Join(err)))
	require.Len(t, s.bodies, 1, "Try tries once")
	_, door = newService(t, refuse(202, "", `{"status":"ok"}`))
	_, err = door.Try(t.Context(), event(t))
	require.ErrorContains(t, err, `not from the service: got a receipt of ""`)
}

// TestHTTPTakesNoProxysAnswerForTheServices: what stands before the service, or in its place, knows nothing of the event. Only what
// it says is too large for it is.
func TestHTTPTakesNoProxysAnswerForTheServices(t *testing.T) {
	t.Parallel()
	for status, invalid := range map[int]bool{400: false, 413: true, 415: false, 422: false} {
		_, door := newService(t, refuse(status, "", "<h1>Client sent an HTTP request to an HTTPS server.</h1>"))
		_, err := door.Try(t.Context(), event(t))
		require.ErrorContains(t, err, "HTTP ")
		require.Equal(t, invalid, emit.IsInvalid(err), "%d", status)
	}
}

// TestHTTPFollowsNoRedirect: the POST would become a GET, which emits nothing.
func TestHTTPFollowsNoRedirect(t *testing.T) {
	t.Parallel()
	asked := 0
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		accept(w, r)
	}))
	t.Cleanup(elsewhere.Close)
	for _, status := range []int{301, 302, 303, 307, 308} {
		_, door := newService(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", elsewhere.URL+"/api/internal/v1/events?token=t")
			w.WriteHeader(status)
		})
		door.Client = elsewhere.Client() // which would follow
		_, err := door.Event(t.Context(), event(t))
		require.ErrorContains(t, err, "redirects to "+elsewhere.URL+", which is not followed")
		require.False(t, emit.IsInvalid(err))
	}
	require.Zero(t, asked)
}

// acceptAll answers with receipts of the first two events that it is sent.
func acceptAll(w http.ResponseWriter, r *http.Request) {
	var sent struct{ Events [2]webhook.Event }
	_ = json.NewDecoder(r.Body).Decode(&sent) // what is no event gets a receipt of none
	w.WriteHeader(http.StatusAccepted)
	_, _ = fmt.Fprintf(w, `[{"id":%q,"workflowId":"events-1","duplicate":false},{"id":%q,"workflowId":"event-e2","duplicate":true}]`, sent.Events[0].ID, sent.Events[1].ID)
}

func events(t *testing.T, n int) []webhook.Event {
	all := make([]webhook.Event, n)
	for i := range all {
		all[i] = event(t)
	}
	return all
}

func TestHTTPEmitsSeveralAgainWithTheSameIDs(t *testing.T) {
	t.Parallel()
	s, door := newServiceAt(t, "/batch", hangUp, refuse(503, "1", `{"detail":"More events are emitted than can be taken in.","eventIds":["a","b"]}`), acceptAll)
	two := events(t, 2)
	two[0].ID, two[0].Timestamp, two[1].Timestamp = "", "", "2025-03-20T11:30:00+01:00"
	given := slices.Clone(two)
	receipts, err := door.Events(t.Context(), two)
	require.NoError(t, err)
	require.Equal(t, given, two, "the caller's events are the caller's")
	require.Len(t, s.bodies, 3)
	for _, body := range s.bodies {
		require.Equal(t, s.bodies[0], body)
	}
	require.GreaterOrEqual(t, s.at[2].Sub(s.at[1]), time.Second, "Retry-After is honoured")
	sent, err := webhook.ParseBatch([]byte(s.bodies[0]))
	require.NoError(t, err)
	require.Equal(t, []emit.Receipt{{ID: sent[0].ID, WorkflowID: "events-1"}, {ID: two[1].ID, WorkflowID: "event-e2", Duplicate: true}}, receipts)
	require.True(t, webhook.ValidID(sent[0].ID))
	require.Equal(t, two[1].ID, sent[1].ID)
	require.Equal(t, "2025-03-20T10:30:00.000Z", sent[1].Timestamp)
	require.Empty(t, sent[0].Timestamp, "the service dates it, so that the same emitted again says the same")
}

func TestHTTPDoesNotTrySeveralAgainInVain(t *testing.T) {
	t.Parallel()
	s, door := newServiceAt(t, "/batch", refuse(422, "", `{"detail":"No.","errors":[{"field":"events[1].event","message":"is new here"}]}`))
	_, err := door.Events(t.Context(), events(t, 2))
	var refused *emit.RefusedError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, []webhook.FieldError{{Field: "events[1].event", Message: "is new here"}}, refused.Fields)
	require.True(t, emit.IsInvalid(err))
	require.ErrorContains(t, err, "emit 2 events")
	require.Len(t, s.bodies, 1)

	s, door = newServiceAt(t, "/batch", acceptAll)
	same := event(t)
	for want, invalid := range map[string][]webhook.Event{
		"at least one event": {},
		"at most 100 events": events(t, 101),
		"events[1].data":     {event(t), {Type: webhook.PostCreated, Data: []byte(`[]`)}},
		"events[2].id":       {same, event(t), same},
	} {
		_, err = door.Events(t.Context(), invalid)
		require.ErrorContains(t, err, want)
		require.True(t, emit.IsInvalid(err))
		_, err = door.TryEvents(t.Context(), invalid)
		require.ErrorContains(t, err, want)
	}
	require.Empty(t, s.bodies, "found out here")
	_, err = (&emit.HTTP{}).Events(t.Context(), events(t, 1))
	require.ErrorContains(t, err, "URL must be")
}

func TestHTTPTriesSeveralOnce(t *testing.T) {
	t.Parallel()
	for want, answer := range map[string]http.HandlerFunc{
		"HTTP 503":                                 refuse(503, "1", ""),
		"not from the service":                     accept, // one receipt that is no array
		"from the service: got 2 receipts":         acceptAll,
		"from the service: got 0 receipts":         refuse(202, "", "null"),
		"from the service: got a receipt of \"e\"": refuse(202, "", `[{"id":"e"},{"id":"e"},{"id":"e"}]`),
		"from the service: invalid character '":    refuse(202, "", "<html>"),
	} {
		s, door := newServiceAt(t, "/batch", answer)
		_, err := door.TryEvents(t.Context(), events(t, 3))
		require.ErrorContains(t, err, want)
		require.False(t, emit.IsInvalid(err))
		require.Len(t, s.bodies, 1)
	}
	_, door := newServiceAt(t, "/batch", acceptAll)
	receipts, err := door.TryEvents(t.Context(), events(t, 2))
	require.NoError(t, err)
	require.Len(t, receipts, 2)

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, door = newServiceAt(t, "/batch", refuse(503, "60", ""))
	_, err = door.Events(ctx, events(t, 2))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "HTTP 503")
}
