package api_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/webhook"
)

// TestAnOrderedWebhook: its owner sees what waits behind what, and attempts the first of it now.
func TestAnOrderedWebhook(t *testing.T) {
	t.Parallel()
	s := newSystemWith(t, webhook.Schedule{time.Hour})
	_, key := s.bot()
	s.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	id := s.subscribe(key, "")
	path := webhooksPath + "/" + id
	got := s.do("PATCH", path, key, `{"ordered":true}`)
	require.Equal(t, http.StatusOK, got.status, "%s", got.body)
	require.Contains(t, string(got.body), `"ordered":true`)
	require.Equal(t, string(got.body), string(s.do("PATCH", path, key, `{"ordered":true}`).body), "it is idempotent")
	_, err := s.pool.Exec(t.Context(), "UPDATE webhooks SET ordered_from = NULL WHERE id = $1", id) // or it would begin in ten seconds
	require.NoError(t, err)

	var want []string
	for range 3 {
		want = append(want, s.emit(`{"event":"post.created","data":{}}`).ID)
		require.Eventually(t, func() bool { return len(s.waiting(path, key)) == len(want) }, 3*time.Minute, 20*time.Millisecond)
	}
	require.Eventually(t, func() bool { return s.waiting(path, key)[0].Attempt == 2 }, 3*time.Minute, 20*time.Millisecond)
	list := s.waiting(path, key)
	for i, d := range list {
		require.Equal(t, []any{i + 1, want[i]}, []any{d.Position, d.EventID})
		require.Equal(t, i > 0, d.NextAttemptAt == nil, "the others wait for the first")
	}
	require.WithinDuration(t, time.Now().Add(time.Hour), *list[0].NextAttemptAt, 15*time.Minute)
	require.Equal(t, list, s.waiting("/api/internal/v1/webhooks/"+id, serviceToken))

	refused := s.do("POST", path+"/retry-now", key, map[string]string{"eventId": want[1]})
	require.Equal(t, http.StatusConflict, refused.status, "%s", refused.body)
	require.Contains(t, string(refused.body), "waits for those before it")
	require.Len(t, s.deliveries(key, id), 1)
	s.answer(nil)
	require.Equal(t, http.StatusAccepted, s.do("POST", path+"/retry-now", key, map[string]string{"eventId": want[0]}).status)
	require.Eventually(t, func() bool { return len(s.waiting(path, key)) == 0 }, 3*time.Minute, 20*time.Millisecond)
	var sent []string
	for _, r := range s.requests() {
		sent = append(sent, r.header.Get("webhook-id"))
	}
	require.Equal(t, []string{want[0], want[0], want[1], want[2]}, sent)
	require.Contains(t, string(s.do("GET", "/api/bot/v1/audit", key, nil).body), `"after":{"ordered":true}`)

	// What waits behind an event that is not wanted any more does not wait for its retry.
	require.Equal(t, http.StatusOK, s.do("PATCH", path, key, `{"events":["post.created","thread.created"]}`).status)
	s.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	s.emit(`{"event":"post.created","data":{}}`)
	require.Eventually(t, func() bool { list := s.waiting(path, key); return len(list) == 1 && list[0].Attempt == 2 }, 3*time.Minute, 20*time.Millisecond)
	next := s.emit(`{"event":"thread.created","data":{}}`).ID
	require.Eventually(t, func() bool { return len(s.waiting(path, key)) == 2 }, 3*time.Minute, 20*time.Millisecond)
	s.answer(nil)
	require.Equal(t, http.StatusOK, s.do("PATCH", path, key, `{"events":["thread.created"]}`).status)
	require.Eventually(t, func() bool { return len(s.waiting(path, key)) == 0 }, 3*time.Minute, 20*time.Millisecond)
	requests := s.requests()
	require.Equal(t, next, requests[len(requests)-1].header.Get("webhook-id"))

	// A retry is made at once where it is sent to another URL.
	s.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	s.emit(`{"event":"thread.created","data":{}}`)
	require.Eventually(t, func() bool { list := s.waiting(path, key); return len(list) == 1 && list[0].Attempt == 2 }, time.Minute, 20*time.Millisecond)
	s.answer(nil)
	var w mathub.WebhookDetail
	s.do("GET", path, key, nil).into(t, &w)
	require.Equal(t, http.StatusOK, s.do("PATCH", path, key, map[string]string{"url": w.URL + "?another"}).status)
	require.Eventually(t, func() bool { return len(s.waiting(path, key)) == 0 }, time.Minute, 20*time.Millisecond)
}

func (s *system) waiting(path, key string) (list []mathub.WaitingDelivery) {
	s.t.Helper()
	got := s.do("GET", path+"/waiting", key, nil)
	require.Equal(s.t, http.StatusOK, got.status, "%s", got.body)
	got.into(s.t, &list)
	return list
}

// TestOrderedIsSetAndTakenBack needs no Temporal.
func TestOrderedIsSetAndTakenBack(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	got := a.do("POST", webhooksPath, key, map[string]any{"url": "https://example.com/", "events": []string{"mention"}, "ordered": true})
	require.Equal(t, http.StatusCreated, got.status, "%s", got.body)
	var w mathub.Webhook
	got.into(t, &w)
	require.True(t, w.Ordered)
	for body, status := range map[string]int{`{"ordered":"yes"}`: http.StatusUnprocessableEntity, `{"ordered":null}`: http.StatusOK} {
		got := a.do("PATCH", webhooksPath+"/"+w.ID, key, body)
		require.Equal(t, status, got.status, "%s: %s", body, got.body)
		a.do("GET", webhooksPath+"/"+w.ID, key, nil).into(t, &w)
		require.True(t, w.Ordered)
	}
	_, other := a.bot()
	require.Equal(t, http.StatusNotFound, a.do("GET", webhooksPath+"/"+w.ID+"/waiting", other, nil).status)
	require.JSONEq(t, "[]", string(a.do("GET", webhooksPath+"/"+w.ID+"/waiting", key, nil).body))

	a.execute("INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at) SELECT $1, 'e' || n, 1, 1, 'event', now() FROM generate_series(1, 10001) n", w.ID)
	require.Equal(t, http.StatusOK, a.do("PATCH", webhooksPath+"/"+w.ID, key, `{"ordered":false}`).status)
	got = a.do("PATCH", webhooksPath+"/"+w.ID, key, `{"ordered":true}`)
	require.Equal(t, http.StatusConflict, got.status)
	require.Contains(t, string(got.body), "More than 10000 deliveries wait")
}
