package emit_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/webhook"
)

// service answers as it is told, the last answer for ever, and notes what it is sent.
type service struct {
	mu      sync.Mutex
	answers []http.HandlerFunc
	bodies  []string
	at      []time.Time
}

func accept(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, `{"id":"e1","workflowId":"event-e1","duplicate":true}`)
}

func refuse(status int, retryAfter, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func newService(t *testing.T, answers ...http.HandlerFunc) (*service, *emit.HTTP) {
	s := &service{answers: answers}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, &emit.HTTP{URL: server.URL + "/", Token: "t0ken"}
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if r.Method != http.MethodPost || r.URL.Path != "/api/internal/v1/events" || r.Header.Get("Authorization") != "Bearer t0ken" || r.Header.Get("Content-Type") != "application/json" {
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
	answer(w, r)
}

func event(t *testing.T) webhook.Event {
	e, err := emit.New(emit.PostCreated{PostID: "p1"})
	require.NoError(t, err)
	return e
}

func TestHTTPEmitsAgainWithTheSameIDUntilItIsAccepted(t *testing.T) {
	t.Parallel()
	s, door := newService(t, hangUp, refuse(503, "", "away"), refuse(500, "", ""), refuse(502, "", "<html>"), refuse(429, "1", ""), accept)
	e := event(t)
	e.ID, e.Timestamp = "", "" // it gets one id, not one a request
	receipt, err := door.Event(t.Context(), e)
	require.NoError(t, err)
	require.Equal(t, emit.Receipt{ID: "e1", WorkflowID: "event-e1", Duplicate: true}, receipt)
	require.Len(t, s.bodies, 6)
	for _, body := range s.bodies {
		require.Equal(t, s.bodies[0], body)
	}
	require.Contains(t, s.bodies[0], `"id":"`)
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

	s, door = newService(t, refuse(202, "", "<html>"), accept)
	_, err := door.Try(t.Context(), event(t))
	require.ErrorContains(t, err, "not the service's")
	require.False(t, emit.IsInvalid(errors.Join(err)))
	require.Len(t, s.bodies, 1, "Try tries once")
}
