package api_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/internal/testutil"
	"github.com/mathub/webhooks/workflows/temporaltest"
)

const eventsPath = "/api/internal/v1/events"

// TestAnEventWhoseWorkflowIsAnothersIsNotAccepted: one of a mistyped type stands in its place, and delivers nothing.
func TestAnEventWhoseWorkflowIsAnothersIsNotAccepted(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	const event = `{"id":"taken","event":"post.created","data":{}}`
	_, err := s.temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "event-taken", TaskQueue: "mathub-webhooks"}, "DeliverEvnt")
	require.NoError(t, err)
	got := s.do("POST", eventsPath, serviceToken, event)
	require.Equal(t, http.StatusConflict, got.status, "%s", got.body)
	require.Contains(t, got.fault(t).Detail, `"DeliverEvnt"`)
	require.NoError(t, s.temporal.TerminateWorkflow(t.Context(), "event-taken", "", ""))
	require.False(t, s.emit(event).Duplicate)
}

func TestATestEventIsSentNowAndAnsweredWithItsDelivery(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	botID, key := s.bot()
	id := s.subscribe(key, "")

	// The receiver takes it.
	s.answer(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "thanks") })
	d := s.test(key, id)
	require.True(t, d.Success)
	require.Nil(t, d.Error)
	require.Equal(t, 200, *d.StatusCode)
	require.Equal(t, "thanks", *d.ResponseBody)
	require.Equal(t, []any{id, "test", 1}, []any{d.WebhookID, d.EventType, d.Attempt})
	sent := s.requests()[0]
	require.Equal(t, sent.body, string(d.Payload), "to the byte")
	var envelope struct {
		Event string
		Data  map[string]string
	}
	require.NoError(t, json.Unmarshal([]byte(sent.body), &envelope))
	require.Equal(t, "test", envelope.Event)
	require.Equal(t, map[string]string{"webhookId": id, "botId": botID, "message": "This is a test event from Mathub"}, envelope.Data)
	require.Equal(t, d.ID, sent.header.Get("X-Mathub-Delivery"))
	require.Equal(t, d.EventID, sent.header.Get("webhook-id"))
	mac := hmac.New(sha256.New, []byte("s3cret"))
	mac.Write([]byte(sent.body))
	require.Equal(t, hex.EncodeToString(mac.Sum(nil)), sent.header.Get("X-Mathub-Signature"))

	// The receiver refuses it, in bytes that are no text.
	s.answer(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte("bad \xff nul \x00" + strings.Repeat("x", 10_000)))
	})
	d = s.test(key, id)
	require.False(t, d.Success)
	require.Equal(t, "HTTP 503", *d.Error)
	require.Equal(t, 503, *d.StatusCode)
	require.True(t, strings.HasPrefix(*d.ResponseBody, "bad \uFFFD nul \x00xxx"))
	require.Less(t, len(*d.ResponseBody), 4096+8)
	require.Equal(t, 1, s.webhook(key, id).FailureCount)

	// No one is there.
	nowhere := s.subscribe(key, "http://"+testutil.ClosedPort(t))
	d = s.test(key, nowhere)
	require.False(t, d.Success)
	require.Equal(t, "connection refused", *d.Error)
	require.Nil(t, d.StatusCode)
	require.Nil(t, d.ResponseBody)

	// A disabled webhook is tested too, which enables nothing.
	s.answer(nil)
	s.do("PATCH", webhooksPath+"/"+id, key, `{"isActive":false}`)
	before := len(s.requests())
	require.True(t, s.test(key, id).Success)
	require.Len(t, s.requests(), before+1)
	w := s.webhook(key, id)
	require.False(t, w.IsActive)
	require.NotNil(t, w.DisabledAt)
	require.Zero(t, w.FailureCount)
	list := s.deliveries(key, id)
	require.Len(t, list, 3)
	require.Equal(t, []bool{true, false, true}, []bool{list[0].Success, list[1].Success, list[2].Success})

	require.Equal(t, http.StatusNoContent, s.do("DELETE", webhooksPath+"/"+id, key, nil).status)
	require.Equal(t, http.StatusNotFound, s.do("POST", webhooksPath+"/"+id+"/test", key, nil).status)
	require.Len(t, s.requests(), before+1)
	var left int
	require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT count(*) FROM deliveries WHERE webhook_id = $1", id).Scan(&left))
	require.Zero(t, left)
}

func TestTheTenthFailedTestDisables(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, key := s.bot()
	id := s.subscribe(key, "")
	s.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	for i := range 10 {
		w := s.webhook(key, id)
		require.True(t, w.IsActive)
		require.Equal(t, i, w.FailureCount)
		require.Equal(t, "HTTP 418", *s.test(key, id).Error)
	}
	w := s.webhook(key, id)
	require.False(t, w.IsActive)
	require.Equal(t, 10, w.FailureCount)
	require.NotNil(t, w.DisabledAt)
}

func TestAnEmittedEventArrivesToTheDigit(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, key := s.bot()
	id := s.subscribe(key, "")
	data := `{"n":12345678901234567890.12345678901234567890,"big":1e400,"one":1.0,"zero":-0,"z":1,"a":2,"html":"<a>&</a>","line":"` + "\u2028" + `","nul":"\u0000","esc":"\u00e9\/"}`
	r := s.emit(`{"event":"post.created","timestamp":"2025-03-20T10:30:00Z","data":` + data + `}`)
	require.False(t, r.Duplicate)
	require.NotEmpty(t, r.ID)
	require.Eventually(t, func() bool { return len(s.deliveries(key, id)) == 1 }, 3*time.Minute, 20*time.Millisecond)
	d := s.deliveries(key, id)[0]
	want := `{"event":"post.created","timestamp":"2025-03-20T10:30:00.000Z","data":` + data + `}`
	require.Equal(t, want, s.requests()[0].body)
	require.Contains(t, string(s.do("GET", webhooksPath+"/"+id+"/deliveries", key, nil).body), `"payload":`+want)
	require.Equal(t, []any{r.ID, "post.created", 1, true}, []any{d.EventID, d.EventType, d.Attempt, d.Success})

	// At the limit of size.
	frame := `{"id":"largest","event":"post.created","data":{"x":""}}`
	s.emit(strings.Replace(frame, `""`, `"`+strings.Repeat("x", 256<<10-len(frame))+`"`, 1))
	require.Eventually(t, func() bool { return len(s.deliveries(key, id)) == 2 }, 3*time.Minute, 20*time.Millisecond)
}

// emitPatiently emits again while the machine is too busy; for any goroutine.
func (s *system) emitPatiently(event string) (r mathub.Receipt, err error) {
	for {
		req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url+eventsPath, strings.NewReader(event))
		if err != nil {
			return r, err
		}
		req.Header.Set("Authorization", "Bearer "+serviceToken)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return r, err
		}
		err = json.NewDecoder(resp.Body).Decode(&r)
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusServiceUnavailable {
			time.Sleep(100 * time.Millisecond) // before it emits again
			continue
		}
		if resp.StatusCode != http.StatusAccepted {
			err = fmt.Errorf("status %d", resp.StatusCode)
		}
		return r, err
	}
}

func TestAnEventIDIsAcceptedOnce(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, key := s.bot()
	id := s.subscribe(key, "")
	const event = `{"id":%q,"event":"post.created","data":{"n":%d}}`
	require.Equal(t, mathub.Receipt{ID: "once", WorkflowID: "event-once"}, s.emit(fmt.Sprintf(event, "once", 1)))
	for n := range 3 {
		require.Equal(t, mathub.Receipt{ID: "once", WorkflowID: "event-once", Duplicate: true, Conflict: n != 1}, s.emit(fmt.Sprintf(event, "once", n)))
	}
	// Temporal has forgotten it, Postgres has not.
	s.execute("INSERT INTO events (id, type, payload, run_id) VALUES ('kept', 'post.created', '{}', 'run')")
	require.True(t, s.emit(fmt.Sprintf(event, "kept", 1)).Duplicate)

	var first atomic.Int32
	var all sync.WaitGroup
	for n := range 50 {
		all.Go(func() {
			r, err := s.emitPatiently(fmt.Sprintf(event, "raced", n))
			if err != nil {
				t.Error(err)
			} else if !r.Duplicate {
				first.Add(1)
			}
		})
	}
	all.Wait()
	require.Equal(t, int32(1), first.Load())
	require.Eventually(t, func() bool { return len(s.deliveries(key, id)) >= 2 }, 3*time.Minute, 20*time.Millisecond)
	time.Sleep(200 * time.Millisecond) // for a third delivery, which must not come
	byID := map[string]int{}
	for _, d := range s.deliveries(key, id) {
		byID[d.EventID]++
	}
	require.Equal(t, map[string]int{"once": 1, "raced": 1}, byID)
	require.Len(t, s.requests(), 2)
}

func TestOnlyTheNamedBotsHearOfAMention(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	named, namedKey := s.bot()
	_, otherKey := s.bot()
	subscribe := func(key string) string {
		got := s.do("POST", webhooksPath, key, map[string]any{"url": s.receiver, "events": []string{"mention"}})
		var w mathub.Webhook
		got.into(t, &w)
		return w.ID
	}
	hears, deaf := subscribe(namedKey), subscribe(otherKey)
	s.emit(fmt.Sprintf(`{"event":"mention","data":{},"botIds":[%q,"nobody"]}`, named))
	require.Eventually(t, func() bool { return len(s.deliveries(namedKey, hears)) == 1 }, 3*time.Minute, 20*time.Millisecond)
	require.Empty(t, s.deliveries(otherKey, deaf))
}

func TestADeliveryIsSentOnceMore(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, key := s.bot()
	_, strangerKey := s.bot()
	id, another := s.subscribe(key, ""), s.subscribe(key, s.receiver+"/another")
	s.emit(`{"id":"e","event":"post.created","data":{"n":1.0}}`)
	require.Eventually(t, func() bool { return len(s.deliveries(key, id)) == 1 && len(s.deliveries(key, another)) == 1 }, 3*time.Minute, 20*time.Millisecond)
	old := s.deliveries(key, id)[0]
	path := func(webhook, delivery string) string {
		return webhooksPath + "/" + webhook + "/deliveries/" + delivery + "/redeliver"
	}
	s.do("PATCH", webhooksPath+"/"+id, key, `{"isActive":false}`)
	s.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	got := s.do("POST", path(id, old.ID), key, nil)
	require.Equal(t, http.StatusOK, got.status, "%s", got.body)
	var d mathub.Delivery
	got.into(t, &d)
	require.Equal(t, []any{"e", 2, false, "HTTP 502"}, []any{d.EventID, d.Attempt, d.Success, *d.Error})
	require.Equal(t, string(old.Payload), string(d.Payload))
	require.NotEqual(t, old.ID, d.ID)
	require.Equal(t, d.ID, s.deliveries(key, id)[0].ID, "newest first")

	missing := string(s.do("GET", webhooksPath+"/nonsense", key, nil).body)
	for _, c := range []struct{ path, key string }{
		{path(id, "nonsense"), key},
		{path(id, uuid.NewString()), key},
		{path(another, old.ID), key}, // another webhook's delivery
		{path(id, old.ID), strangerKey},
	} {
		got := s.do("POST", c.path, c.key, nil)
		require.Equal(t, http.StatusNotFound, got.status, c.path)
		require.Equal(t, missing, string(got.body))
	}
}

func TestARecoveryIsBegunFollowedAndRefusedThroughTheAPI(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, key := s.bot()
	id := s.subscribe(key, "")
	path := webhooksPath + "/" + id + "/recover"
	require.Equal(t, http.StatusNotFound, s.do("GET", path, key, nil).status)
	require.Equal(t, http.StatusNotFound, s.do("DELETE", path, key, nil).status)
	s.do("PATCH", webhooksPath+"/"+id, key, `{"isActive":false}`)
	require.Equal(t, http.StatusConflict, s.do("POST", path, key, nil).status, "enable it first")
	for i := range 3 {
		r := s.emit(fmt.Sprintf(`{"id":"missed-%d","event":"post.created","data":{}}`, i))
		require.NoError(t, s.temporal.GetWorkflow(t.Context(), r.WorkflowID, "").Get(t.Context(), nil))
	}
	s.do("PATCH", webhooksPath+"/"+id, key, `{"isActive":true}`)
	for body, field := range map[string]string{`{"since":"yesterday"}`: "since", `{"until":5}`: "until", `{"since":"2025-03-21T00:00:00Z","until":"2025-03-20T00:00:00Z"}`: "since"} {
		got := s.do("POST", path, key, body)
		require.Equal(t, http.StatusUnprocessableEntity, got.status, body)
		require.Equal(t, []string{field}, got.fields(t), body)
	}
	require.Equal(t, http.StatusBadRequest, s.do("POST", path, key, `{"from":1}`).status)
	require.Empty(t, s.requests())

	type progress struct {
		State                               string
		Found, Delivered, Failed, Remaining int
	}
	var p progress
	got := s.do("POST", path, key, nil)
	require.Equal(t, http.StatusAccepted, got.status, "%s", got.body)
	got.into(t, &p)
	require.Equal(t, progress{State: "running"}, p)
	require.Eventually(t, func() bool {
		got := s.do("GET", path, key, nil)
		got.into(t, &p)
		return p.State == "completed"
	}, 3*time.Minute, 50*time.Millisecond)
	require.Equal(t, progress{State: "completed", Found: 3, Delivered: 3}, p)
	require.Len(t, s.requests(), 3)
	require.Equal(t, http.StatusNoContent, s.do("DELETE", path, key, nil).status, "it has ended already")
	for _, d := range s.deliveries(key, id) {
		require.Equal(t, "recover", d.Trigger)
	}
}

// TestUnregisteredAttributesAreNoFault: Temporal refuses whatever names a search attribute that it does not know.
func TestUnregisteredAttributesAreNoFault(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(s *system, key, hook string) answer{
		"emit": func(s *system, _, _ string) answer {
			return s.do("POST", eventsPath, serviceToken, map[string]any{"id": "e1", "event": "post.created", "data": map[string]any{}})
		},
		"test": func(s *system, key, hook string) answer { return s.do("POST", webhooksPath+"/"+hook+"/test", key, nil) },
		"recover": func(s *system, key, hook string) answer {
			return s.do("POST", webhooksPath+"/"+hook+"/recover", key, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSystem(t)
			_, key := s.bot()
			hook := s.subscribe(key, "")
			require.True(t, s.attributes.Known())
			got := call(s, key, hook)
			require.Contains(t, []int{http.StatusOK, http.StatusAccepted}, got.status, "%s", got.body)
			require.False(t, s.attributes.Known(), "it was not refused, so this test shows nothing")
		})
	}
}

func TestReadyWhenPostgresAnswers(t *testing.T) {
	t.Parallel()
	a := newAPI(t, temporaltest.New(t), nil)
	require.Equal(t, "{\"status\":\"ok\"}\n", string(a.do("GET", "/readyz", "", nil).body))
}
