package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

func TestBothSecretsSignDuringARotation(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, key := s.bot()
	id := s.subscribe(key, "") // its secret is s3cret
	path := webhooksPath + "/" + id
	// signers are those of the secrets whose entry webhook-signature has, in their order.
	signers := func(secrets ...string) (found []string) {
		t.Helper()
		require.Equal(t, http.StatusOK, s.tested(key, id).status)
		sent := s.requests()
		last := sent[len(sent)-1]
		seconds, err := time.ParseDuration(last.header.Get("Webhook-Timestamp") + "s")
		require.NoError(t, err)
		for entry := range strings.FieldsSeq(last.header.Get("Webhook-Signature")) {
			for _, secret := range secrets {
				if entry == webhook.SignStandard(secret, last.header.Get("Webhook-Id"), time.Unix(int64(seconds.Seconds()), 0), []byte(last.body)) {
					found = append(found, secret)
				}
			}
		}
		require.Equal(t, webhook.Sign(found[0], []byte(last.body)), last.header.Get("X-Mathub-Signature"), "the newest signs alone there")
		return found
	}
	until := func(got answer) string {
		var view struct{ SecretOverlapUntil string }
		require.Equal(t, http.StatusOK, got.status, "%s", got.body)
		got.into(t, &view)
		return view.SecretOverlapUntil
	}
	all := []string{"s3cret", "second", "third", "fourth"}
	require.Equal(t, []string{"s3cret"}, signers(all...))

	overlaps := until(s.do("PATCH", path, key, `{"secret":"second","secretOverlap":"24h"}`))
	at, err := time.Parse(time.RFC3339, overlaps)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(24*time.Hour), at, time.Minute)
	require.Equal(t, []string{"second", "s3cret"}, signers(all...))
	require.Equal(t, overlaps, until(s.do("PATCH", path, key, `{"events":["post.created"]}`)), "a change of something else changes nothing about it")
	require.Equal(t, []string{"second", "s3cret"}, signers(all...))

	until(s.do("PATCH", path, key, `{"secret":"third","secretOverlap":"1h"}`))
	require.Equal(t, []string{"third", "second"}, signers(all...), "two at most")

	s.execute("UPDATE webhooks SET previous_secret_until = now() - interval '1 second'")
	require.Equal(t, []string{"third"}, signers(all...), "its time is over")
	require.Empty(t, until(s.do("GET", path, key, nil)))

	until(s.do("PATCH", path, key, `{"secret":"second","secretOverlap":"1h"}`))
	require.Empty(t, until(s.do("PATCH", path, key, `{"secret":"fourth"}`)), "without an overlap none signs beside it")
	require.Equal(t, []string{"fourth"}, signers(all...))

	until(s.do("PATCH", path, key, `{"secret":"second","secretOverlap":"1h"}`))
	require.Empty(t, until(s.do("PATCH", path, key, `{"secret":null}`)), "a webhook without a secret does not sign")
	require.Equal(t, http.StatusOK, s.do("POST", path+"/test", key, nil).status)
	sent := s.requests()
	require.Empty(t, sent[len(sent)-1].header.Get("Webhook-Signature"))
	require.Empty(t, until(s.do("PATCH", path, key, `{"secret":"third","secretOverlap":"1h"}`)), "there was none before")

	s.execute("UPDATE webhooks SET secret = decode('0100000000ffff', 'hex')")
	got := s.do("PATCH", path, key, `{"secret":"fourth","secretOverlap":"1h"}`)
	require.Equal(t, http.StatusServiceUnavailable, got.status, "what no key opens cannot sign beside another: deliveries would wait for it")
	require.Contains(t, got.fault(t).Detail, "The secret of webhook")
	require.Empty(t, until(s.do("PATCH", path, key, `{"secret":"fourth"}`)))
	require.Equal(t, []string{"fourth"}, signers(all...))
}

func TestSecretOverlapIsBoundedAndNeedsASecret(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	path := webhooksPath + "/" + a.hook(key)
	before := string(a.do("GET", path, key, nil).body)
	for _, body := range []string{
		`{"secretOverlap":"1h"}`, `{"secret":null,"secretOverlap":"1h"}`, `{"secret":"x","secretOverlap":"0s"}`, `{"secret":"x","secretOverlap":"-1h"}`,
		`{"secret":"x","secretOverlap":"168h1s"}`, `{"secret":"x","secretOverlap":"1d"}`, `{"secret":"x","secretOverlap":""}`, `{"secret":"x","secretOverlap":3600}`,
		`{"secret":"x","secretOverlap":"9999999999999h"}`,
	} {
		got := a.do("PATCH", path, key, body)
		require.Equal(t, http.StatusUnprocessableEntity, got.status, "%s: %s", body, got.body)
		require.Equal(t, []string{"secretOverlap"}, got.fields(t), body)
	}
	require.Equal(t, before, string(a.do("GET", path, key, nil).body))
	got := a.do("POST", webhooksPath, key, `{"url":"https://example.com","events":["mention"],"secret":"x","secretOverlap":"1h"}`)
	require.Equal(t, http.StatusBadRequest, got.status)
	require.Equal(t, []string{"secretOverlap"}, got.fields(t), "a new webhook has nothing to overlap with")
	require.Equal(t, http.StatusOK, a.do("PATCH", path, key, `{"secret":"x","secretOverlap":"168h"}`).status)
}
