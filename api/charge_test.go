package api_test

import (
	"net/http"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/api"
)

// TestAnAnswerThatIsNotGivenIsNotCharged: neither one that is refused, as the bot reads others, nor what HEAD leaves away.
func TestAnAnswerThatIsNotGivenIsNotCharged(t *testing.T) {
	t.Parallel()
	newPage := func() (a *testAPI, page, key string) {
		a = newAPI(t, nil, func(cfg *api.Config) { cfg.RateLimit = 600 })
		_, key = a.bot()
		hook := a.hook(key)
		a.fillHistory(hook, uuid.NewString(), 10, 250<<10, "ok")
		return a, webhooksPath + "/" + hook + "/deliveries", key
	}
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		a, page, key := newPage()
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
					if detail := got.fault(t).Detail; detail != "2 large answers of this bot are being read. Read them first, or ask for less." {
						t.Error(detail)
					}
				})
			}
			refused.Wait()
		}
	})
	t.Run("HEAD", func(t *testing.T) {
		t.Parallel()
		a, page, key := newPage()
		for range 30 {
			resp := a.head(page, key)
			require.Equal(t, http.StatusOK, resp.StatusCode)
			require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
			require.Greater(t, resp.ContentLength, int64(900<<10))
		}
		got := a.do(http.MethodGet, page, key, nil)
		require.Equal(t, http.StatusOK, got.status)
		require.Len(t, got.body, int(a.head(page, key).ContentLength))
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
