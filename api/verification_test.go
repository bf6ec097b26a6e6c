package api_test

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/api"
	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/webhook"
)

func (a *testAPI) create(key, url string, events ...string) (v mathub.Webhook) {
	a.t.Helper()
	got := a.do("POST", webhooksPath, key, map[string]any{"url": url, "events": events})
	require.Equal(a.t, http.StatusCreated, got.status, "%s", got.body)
	got.into(a.t, &v)
	return v
}

func (a *testAPI) change(key, id string, change any) (v mathub.Webhook) {
	a.t.Helper()
	got := a.do("PATCH", webhooksPath+"/"+id, key, change)
	require.Equal(a.t, http.StatusOK, got.status, "%s", got.body)
	got.into(a.t, &v)
	return v
}

func asking(c *api.Config) { c.Verification = webhook.VerificationOptional }

// TestNewEndpointsAreAsked when a webhook gets them, whether Temporal is there or not.
func TestNewEndpointsAreAsked(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, asking)
	_, key := a.bot()
	asked := func(id string) (n int) {
		require.NoError(t, a.pool.QueryRow(t.Context(),
			"SELECT count(*) FROM queue q JOIN events e ON e.id = q.event_id WHERE q.webhook_id = $1 AND q.trigger = 'verify' AND q.due_at = 'epoch' AND e.type = 'webhook.verify'", id).Scan(&n))
		return n
	}
	verify := func(id string) {
		a.execute("UPDATE webhooks SET verified_at = now() WHERE id = $1", id)
		a.execute("DELETE FROM queue")
	}
	began := time.Now()
	w := a.create(key, "https://example.com/a", "post.created")
	require.Less(t, time.Since(began), 5*time.Second, "it is answered without Temporal")
	require.False(t, w.Verified)
	require.Nil(t, w.VerifiedAt)
	require.Equal(t, 1, asked(w.ID))

	verify(w.ID)
	for _, change := range []any{
		map[string]any{"secret": "another"},
		map[string]any{"events": []string{"mention"}},
		map[string]any{"isActive": true},
		map[string]any{"url": "https://example.com/a"},
		map[string]any{"url": "https://EXAMPLE.com/a"},
	} {
		v := a.change(key, w.ID, change)
		require.True(t, v.Verified, "%v", change)
		require.WithinDuration(t, time.Now(), *v.VerifiedAt, time.Minute)
		require.Zero(t, asked(w.ID))
	}
	for _, url := range []string{"https://example.com/b", "https://example.com:8443/b", "https://example.org/b"} {
		verify(w.ID)
		require.False(t, a.change(key, w.ID, map[string]any{"url": url}).Verified, url)
		require.Equal(t, 1, asked(w.ID))
	}
	// However often the URL is changed, one verification is planned.
	for i := range 20 {
		a.change(key, w.ID, map[string]any{"url": "https://example.com/" + strconv.Itoa(i)})
	}
	require.Equal(t, 1, asked(w.ID))
	var read mathub.Webhook
	a.do("GET", webhooksPath+"/"+w.ID, key, nil).into(t, &read)
	require.False(t, read.Verified)

	// A deleted webhook's goes with it, and one that is disabled gets it all the same.
	a.change(key, w.ID, map[string]any{"isActive": false})
	require.Equal(t, 1, asked(w.ID))
	require.Equal(t, http.StatusNoContent, a.do("DELETE", webhooksPath+"/"+w.ID, key, nil).status)
	require.Zero(t, asked(w.ID))

	// What is asked concerns one endpoint: nobody reads it by polling.
	require.NotContains(t, string(a.do("GET", "/api/bot/v1/events", key, nil).body), "webhook.verify")
}

// TestASlowChangeTakesNoEndpointForAnother: a body that comes late is compared with the URL as it is then.
func TestASlowChangeTakesNoEndpointForAnother(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, asking)
	_, key := a.bot()
	w := a.create(key, "https://third.party.example/", "post.created")
	body, late := io.Pipe()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, a.url+webhooksPath+"/"+w.ID, body)
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+key)
	request.Header.Set("Content-Type", "application/json")
	ended := make(chan int, 1)
	go func() {
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			ended <- 0
			return
		}
		_ = response.Body.Close()
		ended <- response.StatusCode
	}()
	_, err = io.WriteString(late, `{"url":`)
	require.NoError(t, err)
	a.change(key, w.ID, map[string]any{"url": "https://own.example/"})
	a.execute("UPDATE webhooks SET verified_at = now() WHERE id = $1", w.ID)
	_, err = io.WriteString(late, `"https://third.party.example/"}`)
	require.NoError(t, err)
	require.NoError(t, late.Close())
	require.Equal(t, http.StatusOK, <-ended)
	var read mathub.Webhook
	a.do("GET", webhooksPath+"/"+w.ID, key, nil).into(t, &read)
	require.False(t, read.Verified)
}

// TestDuplicatesAreNamed in the answers that make or change a webhook.
func TestDuplicatesAreNamed(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	_, stranger := a.bot()
	first := a.create(key, "https://example.com/a", "post.created", "mention")
	require.Empty(t, first.DuplicateOf)
	require.Empty(t, a.create(stranger, "https://example.com/a", "post.created").DuplicateOf, "another bot's is none")
	require.Empty(t, a.create(key, "https://example.com/b", "post.created").DuplicateOf, "another URL")
	other := a.create(key, "https://example.com/a", "wiki.edited")
	require.Empty(t, other.DuplicateOf, "other events")
	second := a.create(key, "https://EXAMPLE.com/a", "mention", "wiki.edited")
	require.Equal(t, first.ID, second.DuplicateOf, "the oldest")
	require.Equal(t, other.ID, a.change(key, second.ID, map[string]any{"events": []string{"wiki.edited"}}).DuplicateOf)
	require.Empty(t, a.change(key, second.ID, map[string]any{"url": "https://example.com/c"}).DuplicateOf)
	require.Equal(t, second.ID, a.change(key, first.ID, map[string]any{"url": "https://example.com/c", "events": []string{"wiki.edited"}}).DuplicateOf, "also a younger one")
	require.Empty(t, a.change(key, first.ID, map[string]any{"secret": nil}).DuplicateOf)
}

// TestABotRecoversOneWebhookAtATime: as it may have many for one receiver.
func TestABotRecoversOneWebhookAtATime(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	_, stranger := a.bot()
	first, second := a.create(key, "https://example.com/a", "post.created"), a.create(key, "https://example.com/a", "post.created")
	theirs := a.create(stranger, "https://example.com/a", "post.created")
	recover := func(key, id string) answer { return a.do("POST", webhooksPath+"/"+id+"/recover", key, nil) }
	require.Equal(t, http.StatusAccepted, recover(key, first.ID).status)
	refused := recover(key, second.ID)
	require.Equal(t, http.StatusConflict, refused.status)
	require.Contains(t, refused.fault(t).Detail, first.ID)
	require.Equal(t, http.StatusAccepted, recover(stranger, theirs.ID).status)
	require.Equal(t, http.StatusNoContent, a.do("DELETE", webhooksPath+"/"+first.ID+"/recover", key, nil).status)
	require.Equal(t, http.StatusAccepted, recover(key, second.ID).status)
}

// TestVerifyingAnEndpoint on a running system.
func TestVerifyingAnEndpoint(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, key := s.bot()
	id := s.subscribe(key, "")
	path := webhooksPath + "/" + id
	verify := func() (d mathub.Delivery) {
		got := s.do("POST", path+"/verify", key, nil)
		require.Equal(t, http.StatusOK, got.status, "%s", got.body)
		got.into(t, &d)
		return d
	}
	require.False(t, verify().Success, "a receiver that takes anything has not agreed")
	sent := s.requests()[0]
	require.Equal(t, "webhook.verify", sent.header.Get("X-Mathub-Event"))
	require.Equal(t, webhook.Sign("s3cret", []byte(sent.body)), sent.header.Get("X-Mathub-Signature"))
	require.NotEmpty(t, sent.header.Get("Webhook-Signature"))
	var v mathub.Webhook
	s.do("GET", path, key, nil).into(t, &v)
	require.False(t, v.Verified)

	s.answer(func(w http.ResponseWriter, _ *http.Request) {
		all := s.requests()
		_ = json.NewEncoder(w).Encode(map[string]string{"nonce": webhook.NonceOf([]byte(all[len(all)-1].body))})
	})
	require.True(t, verify().Success)
	s.do("GET", path, key, nil).into(t, &v)
	require.True(t, v.Verified)
	nonces := []string{webhook.NonceOf([]byte(sent.body)), webhook.NonceOf([]byte(s.requests()[1].body))}
	require.NotEqual(t, nonces[0], nonces[1])
	require.False(t, slices.ContainsFunc(nonces, func(n string) bool { return len(n) < 20 }), "nobody guesses one")

	// It is in the history, with what asked for it; another bot's webhook is as if it did not exist.
	require.Equal(t, 2, strings.Count(string(s.do("GET", path+"/deliveries?eventType=webhook.verify", key, nil).body), `"trigger":"verify"`))
	_, stranger := s.bot()
	require.Equal(t, http.StatusNotFound, s.do("POST", path+"/verify", stranger, nil).status)
	require.Equal(t, http.StatusUnauthorized, s.do("POST", path+"/verify", "", nil).status)
}
