package api_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/webhook"
)

// TestATestMayBeTheSampleOfAType: it says so in what is signed, also when it is redelivered, and no other door has it.
func TestATestMayBeTheSampleOfAType(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, key := s.bot()
	id, other := s.subscribe(key, ""), s.subscribe(key, "")
	for i, eventType := range webhook.Subscribable() {
		var d mathub.Delivery
		got := s.do("POST", webhooksPath+"/"+id+"/test", key, map[string]any{"eventType": eventType})
		require.Equal(t, http.StatusOK, got.status, "%s", got.body)
		got.into(t, &d)
		require.True(t, d.Success)
		require.Equal(t, []string{"test", "test"}, []string{d.EventType, d.Trigger})
		sent := s.requests()[i]
		var body struct {
			Event     string
			Timestamp time.Time
			Data      json.RawMessage
			Test      bool
		}
		require.NoError(t, json.Unmarshal([]byte(sent.body), &body))
		spec, _ := webhook.Spec(eventType)
		require.Equal(t, []any{string(eventType), true}, []any{body.Event, body.Test})
		require.JSONEq(t, string(spec.ExampleData()), string(body.Data))
		require.Equal(t, string(eventType), sent.header.Get("X-Mathub-Event"))
		require.Contains(t, s.detail(key, id, d.ID).RequestHeaders, struct{ Name, Value string }{"X-Mathub-Event", string(eventType)})
	}
	n := len(s.requests())
	last := s.deliveries(key, id)[0]
	require.Equal(t, http.StatusOK, s.do("POST", webhooksPath+"/"+id+"/deliveries/"+last.ID+"/redeliver", key, nil).status)
	again := s.requests()[n]
	require.Equal(t, s.requests()[n-1].body, again.body, "to the byte")
	require.Equal(t, s.requests()[n-1].header.Get("X-Mathub-Event"), again.header.Get("X-Mathub-Event"))

	require.Empty(t, s.deliveries(key, other))
	require.NotContains(t, string(s.do("GET", pollPath+"?cursor=0", key, nil).body), `"test":true`)
	for _, body := range []any{`{"eventType":"webhook.verify"}`, `{"eventType":"webhook.disabled"}`, `{"eventType":"nothing"}`, `{"eventType":5}`} {
		got := s.do("POST", webhooksPath+"/"+id+"/test", key, body)
		require.Equal(t, http.StatusUnprocessableEntity, got.status, "%s", got.body)
		require.Equal(t, []string{"eventType"}, got.fields(t))
	}
	require.Equal(t, http.StatusOK, s.do("POST", webhooksPath+"/"+id+"/test", key, `{"eventType":null}`).status)
}

// TestAFailedSampleIsNotMissed: it is no event of the bot's.
func TestAFailedSampleIsNotMissed(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, key := s.bot()
	id := s.subscribe(key, "")
	s.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	require.Equal(t, http.StatusOK, s.do("POST", webhooksPath+"/"+id+"/test", key, `{"eventType":"post.created"}`).status)
	require.Equal(t, http.StatusAccepted, s.do("POST", webhooksPath+"/"+id+"/recover", key, nil).status)
	var r mathub.Recovery
	require.Eventually(t, func() bool {
		s.do("GET", webhooksPath+"/"+id+"/recover", key, nil).into(t, &r)
		return r.State == "completed"
	}, 3*time.Minute, 50*time.Millisecond)
	require.Zero(t, r.Found)
	require.Len(t, s.deliveries(key, id), 1)
}

func TestWhatWaitsIsAttemptedNow(t *testing.T) {
	t.Parallel()
	s := newSystemWith(t, webhook.Schedule{time.Hour})
	_, key := s.bot()
	id := s.subscribe(key, "")
	path := webhooksPath + "/" + id + "/retry-now"
	retry := func(body any) (n mathub.RetryResult) {
		got := s.do("POST", path, key, body)
		require.Equal(t, http.StatusAccepted, got.status, "%s", got.body)
		got.into(t, &n)
		return n
	}
	require.Zero(t, retry(nil).Attempts, "nothing waits")
	s.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	first := s.emit(`{"event":"post.created","data":{}}`)
	require.Eventually(t, func() bool { return len(s.deliveries(key, id)) == 1 }, 3*time.Minute, 50*time.Millisecond)
	s.emit(`{"event":"post.created","data":{}}`)
	require.Eventually(t, func() bool { return len(s.deliveries(key, id)) == 2 }, 3*time.Minute, 50*time.Millisecond)
	s.answer(nil)
	require.Zero(t, retry(`{"eventId":"another"}`).Attempts)
	require.Equal(t, 1, retry(map[string]any{"eventId": first.ID}).Attempts)
	require.Eventually(t, func() bool { return s.deliveries(key, id)[0].Success }, 3*time.Minute, 50*time.Millisecond)
	require.Equal(t, first.ID, s.deliveries(key, id)[0].EventID)
	require.Equal(t, 1, retry(`{}`).Attempts)
	require.Eventually(t, func() bool { return len(s.deliveries(key, id)) == 4 }, 3*time.Minute, 50*time.Millisecond)
	require.Equal(t, "retry", s.deliveries(key, id)[0].Trigger)

	require.Equal(t, []string{"eventId"}, s.do("POST", path, key, `{"eventId":"a b"}`).fields(t))
	s.do("PATCH", webhooksPath+"/"+id, key, `{"isActive":false}`)
	require.Equal(t, http.StatusConflict, s.do("POST", path, key, nil).status)
	_, stranger := s.bot()
	require.Equal(t, http.StatusNotFound, s.do("POST", path, stranger, nil).status)
}

func TestAWebhookMayHaveAName(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	const long100 = "éééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééé"
	name := func(w mathub.Webhook) string {
		if w.Name == nil {
			return "<none>"
		}
		return *w.Name
	}
	var w mathub.Webhook
	got := a.do("POST", webhooksPath, key, map[string]any{"url": "https://example.com/hook", "events": []string{"mention"}, "name": "Mentions <b>"})
	require.Equal(t, http.StatusCreated, got.status, "%s", got.body)
	got.into(t, &w)
	require.Equal(t, "Mentions <b>", name(w))
	path := webhooksPath + "/" + w.ID
	for _, c := range []struct {
		patch any
		want  string
	}{
		{map[string]any{"url": "https://example.com/other"}, "Mentions <b>"},
		{map[string]any{"name": long100}, long100},
		{`{"name":null}`, "<none>"},
		{`{"name":null}`, "<none>"},
		{`{"name":"שלום 👩‍🔬"}`, "שלום 👩‍🔬"},
	} {
		got := a.do("PATCH", path, key, c.patch)
		require.Equal(t, http.StatusOK, got.status, "%s", got.body)
		got.into(t, &w)
		require.Equal(t, c.want, name(w))
		var list []mathub.Webhook
		a.do("GET", webhooksPath, key, nil).into(t, &list)
		require.Equal(t, c.want, name(list[0]))
	}
	updated := w.UpdatedAt
	a.do("PATCH", path, key, `{"name":"שלום 👩‍🔬"}`).into(t, &w)
	require.Equal(t, updated, w.UpdatedAt, "an equal name changes nothing")
	for _, bad := range []any{"", " ", long100 + "é", "a\nb", "a\x00", "a\u202eb", "a\u2028b", "\u007f", 5} {
		for _, c := range [][2]any{{"PATCH", path}, {"POST", webhooksPath}} {
			got := a.do(c[0].(string), c[1].(string), key, map[string]any{"name": bad, "url": "https://example.com/", "events": []string{"mention"}})
			require.Equal(t, http.StatusUnprocessableEntity, got.status, "%q", bad)
			require.Equal(t, []string{"name"}, got.fields(t), "%q", bad)
		}
	}
}
