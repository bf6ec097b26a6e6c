package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/api"
)

// TestAnAnswerThatIsRefusedIsNotCharged: while a bot reads others, it may ask for more.
func TestAnAnswerThatIsRefusedIsNotCharged(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, func(cfg *api.Config) { cfg.RateLimit = 600 })
	_, key := a.bot()
	hook := a.hook(key)
	a.fillHistory(hook, uuid.NewString(), 10, 250<<10, "ok")
	page := webhooksPath + "/" + hook + "/deliveries"
	for range 2 {
		require.Equal(t, http.StatusOK, a.slowReader(page, key))
	}
	for range 3 {
		var refused sync.WaitGroup
		for range 7 {
			refused.Go(func() {
				got := a.do(http.MethodGet, page, key, nil)
				if got.status != http.StatusTooManyRequests {
					t.Errorf("answered %d", got.status)
					return
				}
				if detail := got.fault(t).Detail; detail != "This bot is reading 2 large answers, the most allowed. Finish reading one, or ask for a smaller page." {
					t.Error(detail)
				}
			})
		}
		refused.Wait()
	}
}

// TestWhatIsReadIsCharged, also where the client has the body left away.
func TestWhatIsReadIsCharged(t *testing.T) {
	t.Parallel()
	newPoll := func() (a *testAPI, key string) {
		a = newAPI(t, nil, func(cfg *api.Config) { cfg.RateLimit = 600 })
		_, key = a.bot()
		for i := range 4 {
			a.accepted(fmt.Sprint("e", i), "post.created", `{"x":"`+strings.Repeat("x", 250<<10)+`"}`)
		}
		return a, key
	}
	tagged := func(a *testAPI, key string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.url+pollPath, http.NoBody)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+key)
		req.Header.Set("If-None-Match", "*")
		return a.send(req).status
	}
	for name, c := range map[string]struct {
		ask    func(a *testAPI, key string) int
		status int
	}{
		"HEAD":          {func(a *testAPI, key string) int { return a.head(pollPath, key).StatusCode }, http.StatusOK},
		"If-None-Match": {tagged, http.StatusNotModified},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, key := newPoll()
			for n := 0; ; n++ {
				status := c.ask(a, key)
				if status == http.StatusTooManyRequests {
					require.GreaterOrEqual(t, n, 8)
					return
				}
				require.Equal(t, c.status, status)
				require.Less(t, n, 200)
			}
		})
	}
	t.Run("HEAD says what GET does", func(t *testing.T) {
		t.Parallel()
		a, key := newPoll()
		resp := a.head(pollPath, key)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
		require.Len(t, a.do(http.MethodGet, pollPath, key, nil).body, int(resp.ContentLength))
	})
}

func (a *testAPI) head(path, key string) *http.Response {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), http.MethodHead, a.url+path, http.NoBody)
	require.NoError(a.t, err)
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(a.t, err)
	require.NoError(a.t, resp.Body.Close())
	return resp
}
