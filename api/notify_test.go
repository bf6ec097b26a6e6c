package api_test

import (
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

type botView struct {
	ID           string  `json:"id"`
	NotifyURL    *string `json:"notifyUrl"`
	NotifySecret *string `json:"notifySecret"`
}

func TestWhereOwnersAreToldIsSetByTheService(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	const bots = "/api/internal/v1/bots"
	do := func(method, path, body string) (b botView) {
		t.Helper()
		var content any
		if body != "" {
			content = body
		}
		got := a.do(method, path, serviceToken, content)
		require.Less(t, got.status, 300, string(got.body))
		got.into(t, &b)
		return b
	}
	secret := func() string {
		t.Helper()
		var sealed []byte
		require.NoError(t, a.pool.QueryRow(t.Context(), "SELECT notify_secret FROM bots WHERE id = 'euler'").Scan(&sealed))
		opened, err := a.keyset.OpenNotify("euler", sealed)
		require.NoError(t, err)
		return opened
	}
	made := do("POST", bots, `{"id":"euler","name":"Euler","notifyUrl":"https://EXAMPLE.org:443/"}`)
	require.Equal(t, "https://example.org/", *made.NotifyURL, "by the rules of webhooks")
	require.True(t, strings.HasPrefix(*made.NotifySecret, "whsec_"))
	require.Equal(t, *made.NotifySecret, secret())
	require.Nil(t, do("GET", bots+"/euler", "").NotifySecret, "shown once")

	moved := do("PATCH", bots+"/euler", `{"notifyUrl":"https://example.com:443/trouble"}`)
	var row string
	require.NoError(t, a.pool.QueryRow(t.Context(), "SELECT b::text FROM bots b WHERE id = 'euler'").Scan(&row))
	require.NotContains(t, row, "trouble")
	require.NotContains(t, row, hex.EncodeToString([]byte("trouble")))
	require.Nil(t, moved.NotifySecret)
	require.Equal(t, *made.NotifySecret, secret(), "it stays")
	require.Nil(t, do("PATCH", bots+"/euler", `{"notifySecret":"given"}`).NotifySecret, "its giver knows it")
	require.Equal(t, "given", secret())
	require.Equal(t, "https://example.com/trouble", *do("PATCH", bots+"/euler", `{}`).NotifyURL)

	for body, field := range map[string]string{
		`{"notifyUrl":"https://10.0.0.1/"}`: "notifyUrl", `{"notifyUrl":"ftp://example.com"}`: "notifyUrl", `{"notifyUrl":5}`: "notifyUrl", `{"notifyUrl":""}`: "notifyUrl",
		`{"notifySecret":""}`: "notifySecret", `{"notifySecret":"whsec_!"}`: "notifySecret", `{"notifyUrl":null,"notifySecret":"x"}`: "notifySecret",
	} {
		got := a.do("PATCH", bots+"/euler", serviceToken, body)
		require.Equal(t, http.StatusUnprocessableEntity, got.status, body)
		require.Equal(t, []string{field}, got.fields(t), body)
	}
	require.Equal(t, "given", secret(), "nothing is half done")
	require.Nil(t, do("PATCH", bots+"/euler", `{"notifyUrl":null}`).NotifyURL)
	var gone bool
	require.NoError(t, a.pool.QueryRow(t.Context(), "SELECT notify_secret IS NULL FROM bots WHERE id = 'euler'").Scan(&gone))
	require.True(t, gone)
	require.NotContains(t, string(a.do("PATCH", bots+"/euler", serviceToken, `{"notifySecret":""}`).body), "null removes it", "null is refused")
	got := a.do("PATCH", bots+"/euler", serviceToken, `{"notifySecret":"x"}`)
	require.Equal(t, []string{"notifySecret"}, got.fields(t), "there is nothing to sign")

	got = a.do("POST", bots, serviceToken, `{"id":"bad","name":"Bad","notifyUrl":"https://10.0.0.1/"}`)
	require.Equal(t, []string{"notifyUrl"}, got.fields(t))
	for _, id := range []string{"bad", "nobody", "a.b"} {
		require.Equal(t, http.StatusNotFound, a.do("GET", bots+"/"+id, serviceToken, nil).status, id)
		require.Equal(t, http.StatusNotFound, a.do("PATCH", bots+"/"+id, serviceToken, `{}`).status, id)
	}
	require.Equal(t, http.StatusBadRequest, a.do("PATCH", bots+"/euler", serviceToken, `{"name":"Leonhard"}`).status)
	require.True(t, json.Valid(a.do("GET", bots+"/euler", serviceToken, nil).body))
}

// TestATestNotification: a bot's own, signed with its secret, and its answer is what the endpoint's was.
func TestATestNotification(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, key := s.bot()
	_, other := s.bot()
	const path = "/api/bot/v1/bot/notification-test"
	require.Equal(t, http.StatusConflict, s.do("POST", path, key, nil).status, "there is no URL yet")
	set := s.do("PATCH", "/api/bot/v1/bot", key, map[string]any{"notifyUrl": s.receiver + "/owner", "notifySecret": "s3cret"})
	require.Equal(t, http.StatusOK, set.status, "%s", set.body)
	for status, want := range map[int]string{
		http.StatusNoContent:          `{"delivered":true,"statusCode":204,"error":null}`,
		http.StatusServiceUnavailable: `{"delivered":false,"statusCode":503,"error":"HTTP 503"}`,
	} {
		s.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		got := s.do("POST", path, key, nil)
		require.Equal(t, http.StatusOK, got.status, "%s", got.body)
		require.JSONEq(t, want, string(got.body))
	}
	require.Len(t, s.requests(), 2)
	for _, sent := range s.requests() {
		require.Equal(t, webhook.Sign("s3cret", []byte(sent.body)), sent.header.Get("X-Mathub-Signature"))
		require.Contains(t, sent.body, `"test":true`)
	}
	require.Equal(t, http.StatusConflict, s.do("POST", path, other, nil).status, "another bot has none")
	require.Equal(t, http.StatusUnauthorized, s.do("POST", path, "", nil).status)
}
