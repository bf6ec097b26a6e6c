package api_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/api"
)

func TestAuthentication(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	botID, key := a.bot()
	path := "/api/internal/v1/bots/" + botID + "/keys"
	made := a.do("POST", path, serviceToken, nil)
	require.Equal(t, http.StatusCreated, made.status)
	var second struct{ ID, Key string }
	made.into(t, &second)
	request := func(authorization ...string) answer {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.url+webhooksPath, http.NoBody)
		require.NoError(t, err)
		for _, v := range authorization {
			req.Header.Add("Authorization", v)
		}
		return a.send(req)
	}
	for _, good := range []string{"Bearer " + key, "bearer " + key, "BEARER  " + key, "Bearer " + second.Key} {
		require.Equal(t, http.StatusOK, request(good).status, good)
	}
	for _, bad := range [][]string{nil, {""}, {"Bearer"}, {"Bearer "}, {key}, {"Basic " + key}, {"Bearer " + key + "x"}, {"Bearer " + serviceToken}, {"Bearer " + key, "Bearer " + key}, {"Bearer " + strings.Repeat("x", 10_000)}} {
		got := request(bad...)
		require.Equal(t, http.StatusUnauthorized, got.status, "%.40v", bad)
		require.Contains(t, got.header.Get("WWW-Authenticate"), "Bearer")
	}
	require.Equal(t, http.StatusUnauthorized, a.do("POST", path, key, nil).status, "a bot's key is no service token")
	require.Equal(t, http.StatusUnauthorized, a.do("POST", path, "", nil).status)

	require.Equal(t, http.StatusNoContent, a.do("DELETE", path+"/"+second.ID, serviceToken, nil).status)
	require.Equal(t, http.StatusUnauthorized, request("Bearer "+second.Key).status, "revoked at once")
	require.Equal(t, http.StatusOK, request("Bearer "+key).status)
	require.Equal(t, http.StatusNotFound, a.do("DELETE", path+"/"+second.ID, serviceToken, nil).status)

	off := newAPI(t, nil, func(c *api.Config) { c.ServiceToken = "" })
	require.Equal(t, http.StatusNotFound, off.do("POST", "/api/internal/v1/bots", "", `{"name":"x"}`).status)
}

// otherKey is of the right form, and nobody's.
const otherKey = "bot_Zm9yIHRoZSB0ZXN0cyBvbmx5LCBubyBrZXkhIcpdyhk"

// TestAKeyOfTheWrongFormIsNotLookedUp: Postgres is not asked.
func TestAKeyOfTheWrongFormIsNotLookedUp(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	a.pool.Close()
	require.Equal(t, http.StatusServiceUnavailable, a.do("GET", webhooksPath, key, nil).status)
	require.Equal(t, http.StatusServiceUnavailable, a.do("GET", webhooksPath, otherKey, nil).status)
	mistyped := []byte(key)
	mistyped[20] ^= 1
	for _, wrong := range []string{
		"x", "bot_", "bot_nobody", key[:len(key)-1], key + "A", key[4:], "BOT_" + key[4:], string(mistyped), strings.Repeat("x", 10_000), "bot_" + strings.Repeat("\u00e9", 20) + "xxx",
	} {
		require.Equal(t, http.StatusUnauthorized, a.do("GET", webhooksPath, wrong, nil).status, wrong)
	}
}

// TestWrongKeysOfAnAddressAreFew: beyond, none is looked up that is not valid. Valid ones work, also those that this process has
// not seen yet.
func TestWrongKeysOfAnAddressAreFew(t *testing.T) {
	t.Parallel()
	for name, rate := range map[string]int{"with a rate": 600, "without": 0} {
		a := newAPI(t, nil, func(c *api.Config) { c.RateLimit = rate })
		_, key := a.bot()
		_, fresh := a.bot()
		require.Equal(t, http.StatusOK, a.do("GET", webhooksPath, key, nil).status)
		answered := map[int]int{}
		var last answer
		for range 200 {
			last = a.do("GET", webhooksPath, otherKey, nil)
			answered[last.status]++
		}
		require.Equal(t, map[int]int{http.StatusUnauthorized: 60, http.StatusTooManyRequests: 140}, answered, name)
		require.Equal(t, "1", last.header.Get("Retry-After"))
		require.Equal(t, http.StatusOK, a.do("GET", webhooksPath, key, nil).status, "it shares the address")
		require.Equal(t, http.StatusOK, a.do("GET", webhooksPath, fresh, nil).status, "it does, too")
		a.execute("DELETE FROM api_keys")
		require.Equal(t, http.StatusUnauthorized, a.do("GET", webhooksPath, key, nil).status, "revoked")
		require.Equal(t, http.StatusTooManyRequests, a.do("GET", webhooksPath, key, nil).status, "and known no more")
		a.clock.Advance(time.Second)
		require.Equal(t, http.StatusUnauthorized, a.do("GET", webhooksPath, key, nil).status, "one a second is looked up")
		require.Equal(t, http.StatusTooManyRequests, a.do("GET", webhooksPath, key, nil).status, "and no more")
	}
}

// TestWrongKeysAtOnceAreFew, too: while Postgres is slow, no more of an address's wait for it than are looked up one after the
// other. What was not wrong is given back.
func TestWrongKeysAtOnceAreFew(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	for range 100 {
		require.Equal(t, http.StatusOK, a.do("GET", webhooksPath, key, nil).status)
	}
	tx, err := a.pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(t.Context(), "LOCK TABLE api_keys")
	require.NoError(t, err)
	results := make(chan int, 200)
	for range cap(results) {
		go func() { results <- a.do("GET", webhooksPath, otherKey, nil).status }()
	}
	answered := map[int]int{}
	for range cap(results) {
		answered[<-results]++
	}
	require.Equal(t, map[int]int{http.StatusServiceUnavailable: 60, http.StatusTooManyRequests: 140}, answered, "60 were looked up")
	require.NoError(t, tx.Rollback(t.Context()))
	require.Equal(t, http.StatusUnauthorized, a.do("GET", webhooksPath, otherKey, nil).status, "those were not found to be wrong")
}
