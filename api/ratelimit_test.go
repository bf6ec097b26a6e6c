package api_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/api"
)

// TestAKeyIsSentSoMuchASecond: 8 MiB at once, and then none before time has given back what is more; another key has its own.
func TestAKeyIsSentSoMuchASecond(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, func(cfg *api.Config) { cfg.RateLimit = 600 })
	_, key := a.bot()
	_, other := a.bot()
	hook := a.hook(key)
	a.fillHistory(hook, uuid.NewString(), 10, 250<<10, "ok")
	sent := 0
	var refused answer
	for {
		// Not held against the contract, which would take long.
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.url+"/api/bot/v1/webhooks/"+hook+"/deliveries", http.NoBody)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+key)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		if refused = (answer{resp.StatusCode, resp.Header, body}); refused.status != http.StatusOK {
			break
		}
		sent += len(body)
		require.Less(t, sent, 100<<20, "it goes on for ever")
	}
	a.holdAgainstContract(httptest.NewRequest(http.MethodGet, "/api/bot/v1/webhooks/"+hook+"/deliveries", nil), refused)
	require.Equal(t, http.StatusTooManyRequests, refused.status)
	require.Contains(t, refused.fault(t).Detail, "Answer limit of this key reached")
	require.Equal(t, "1", refused.header.Get("Retry-After"))
	require.Greater(t, sent, 8<<20)
	require.Less(t, sent, 9<<20)
	require.Equal(t, http.StatusOK, a.do(http.MethodGet, "/api/bot/v1/webhooks", other, nil).status)
}

func TestAKeyIsHeldToItsRate(t *testing.T) {
	t.Parallel()
	const limit = 120
	a := newAPI(t, nil, func(cfg *api.Config) { cfg.RateLimit = limit })
	id, key := a.bot()
	_, other := a.bot()
	number := func(got answer, header string) int {
		n, err := strconv.Atoi(got.header.Get(header))
		require.NoError(t, err, header)
		return n
	}
	list := func(key string) answer { return a.do(http.MethodGet, "/api/bot/v1/webhooks", key, nil) }
	first := list(key)
	require.Equal(t, http.StatusOK, first.status)
	require.Equal(t, []int{limit, limit - 1, 1}, []int{number(first, "RateLimit-Limit"), number(first, "RateLimit-Remaining"), number(first, "RateLimit-Reset")})

	var mu sync.Mutex
	var all sync.WaitGroup
	answered := map[int]int{}
	var refused answer
	for range 10 { // in progress at once, as many as a bot may have
		all.Go(func() {
			for range 3 * limit / 10 {
				got := list(key)
				mu.Lock()
				answered[got.status]++
				if got.status == http.StatusTooManyRequests {
					refused = got
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	require.Equal(t, map[int]int{http.StatusOK: limit - 1, http.StatusTooManyRequests: 2*limit + 1}, answered)
	require.Contains(t, refused.fault(t).Detail, "120 calls a minute")
	require.Equal(t, 0, number(refused, "RateLimit-Remaining"))
	require.Equal(t, 1, number(refused, "Retry-After"))
	require.Equal(t, http.StatusOK, list(other).status, "another key has its own")
	require.Equal(t, http.StatusUnauthorized, list("bot_nobody").status)

	a.clock.Advance(time.Second)
	require.Equal(t, http.StatusOK, list(key).status, "as Retry-After said")
	require.Equal(t, http.StatusOK, list(key).status)

	a.execute("DELETE FROM api_keys WHERE bot_id = $1", id)
	require.Equal(t, http.StatusTooManyRequests, list(key).status, "what is beyond the rate is not looked up")
	a.clock.Advance(time.Second)
	require.Equal(t, http.StatusUnauthorized, list(key).status)
}

// TestABotIsHeldToARateOfChanges, however many keys it has made itself; each key reads on.
func TestABotIsHeldToARateOfChanges(t *testing.T) {
	t.Parallel()
	const limit = 30
	a := newAPI(t, nil, func(cfg *api.Config) { cfg.RateLimit = limit })
	id, key := a.bot()
	_, other := a.bot()
	hook := webhooksPath + "/" + a.hook(key)
	keys := []string{key}
	for range 2 {
		_, made, err := a.bots().CreateKey(t.Context(), id, "")
		require.NoError(t, err)
		keys = append(keys, made)
	}
	answered := map[int]int{}
	var refused answer
	for n := range limit {
		got := a.do(http.MethodPatch, hook, keys[n%len(keys)], map[string]any{"name": fmt.Sprint(n)})
		if answered[got.status]++; got.status != http.StatusOK {
			refused = got
		}
	}
	require.Equal(t, map[int]int{http.StatusOK: limit - 1, http.StatusTooManyRequests: 1}, answered, "one call made the webhook")
	require.Contains(t, refused.fault(t).Detail, "over all its keys")
	require.Equal(t, "2", refused.header.Get("Retry-After"))
	for _, key := range keys {
		require.Equal(t, http.StatusOK, a.do(http.MethodGet, hook, key, nil).status)
	}
	require.Equal(t, http.StatusCreated, a.do(http.MethodPost, "/api/bot/v1/keys", other, nil).status, "another bot has its own")
	a.clock.Advance(2 * time.Second)
	require.Equal(t, http.StatusOK, a.do(http.MethodPatch, hook, key, `{"name":"x"}`).status)
}

func TestTheServiceHasNoRate(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, func(cfg *api.Config) { cfg.RateLimit = 1 })
	for i := range 5 {
		got := a.do(http.MethodPost, "/api/internal/v1/bots", serviceToken, map[string]any{"name": fmt.Sprint(i)})
		require.Equal(t, http.StatusCreated, got.status)
		require.Empty(t, got.header.Get("RateLimit-Limit"))
	}
}
