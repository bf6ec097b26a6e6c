package api_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mathub "github.com/mathub/webhooks/clients/go"
)

// TestRecoveriesAreFollowedWithoutTemporal: they are rows of Postgres, and one that Temporal does not start now is started
// by the next sweep.
func TestRecoveriesAreFollowedWithoutTemporal(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	_, stranger := a.bot()
	id := a.hook(key)
	a.execute("UPDATE webhooks SET created_at = '2025-03-01T00:00:00Z'")
	path, list := webhooksPath+"/"+id+"/recover", webhooksPath+"/"+id+"/recoveries"
	require.Equal(t, "[]\n", string(a.do("GET", list, key, nil).body))
	require.Equal(t, http.StatusNotFound, a.do("GET", path, key, nil).status)
	require.Equal(t, http.StatusNotFound, a.do("DELETE", path, key, nil).status)

	read := func() (r mathub.Recovery) {
		got := a.do("GET", path, key, nil)
		require.Equal(t, http.StatusOK, got.status, "%s", got.body)
		got.into(t, &r)
		return r
	}
	got := a.do("POST", path, key, `{"since":"2025-03-19T10:30:00Z","until":"2025-03-20T10:30:00Z"}`)
	require.Equal(t, http.StatusAccepted, got.status, "%s", got.body)
	var begun mathub.Recovery
	got.into(t, &begun)
	require.Equal(t, begun, read())
	require.Equal(t, time.Date(2025, 3, 19, 10, 30, 0, 0, time.UTC), begun.Since.UTC())
	require.Equal(t, time.Date(2025, 3, 20, 10, 30, 0, 0, time.UTC), begun.Until.UTC())
	require.WithinDuration(t, time.Now(), begun.StartedAt, time.Minute)
	require.Equal(t, mathub.Recovery{State: "running", Since: begun.Since, Until: begun.Until, StartedAt: begun.StartedAt}, begun)
	got = a.do("POST", path, key, nil)
	require.Equal(t, http.StatusConflict, got.status, "one at a time")
	require.Contains(t, got.fault(t).Detail, "running")

	a.execute("UPDATE recoveries SET found = 5, delivered = 2, failed = 1, last_error = 'HTTP 500', looked_through = true")
	a.execute("INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at, recovery_id) SELECT webhook_id, n::text, 1, 1, 'recover', now(), id FROM recoveries, generate_series(1, 2) n")
	a.plan(id, "a retry", "retry")
	r := read()
	require.Equal(t, []int{5, 2, 1, 2}, []int{r.Found, r.Delivered, r.Failed, r.Remaining})
	require.Equal(t, "HTTP 500", *r.LastError)
	require.True(t, r.LookedThrough)

	require.Equal(t, http.StatusNotFound, a.do("DELETE", path, stranger, nil).status)
	require.Equal(t, http.StatusNoContent, a.do("DELETE", path, key, nil).status)
	r = read()
	require.Equal(t, []any{"cancelled", 2}, []any{r.State, r.Remaining}, "what it did not come to")
	require.NotNil(t, r.EndedAt)
	require.Equal(t, []string{"a retry"}, a.planned(id))

	require.Equal(t, http.StatusAccepted, a.do("POST", path, key, nil).status)
	var all []mathub.Recovery
	a.do("GET", list, key, nil).into(t, &all)
	require.Equal(t, []string{"running", "cancelled"}, []string{all[0].State, all[1].State}, "newest first")
	require.Equal(t, http.StatusNotFound, a.do("GET", list, stranger, nil).status)
	a.execute("UPDATE recoveries SET state = 'completed' WHERE state = 'running'")
	a.execute("INSERT INTO recoveries (id, webhook_id, since, until, state, begin_at, upto, after_time) SELECT gen_random_uuid(), $1, now(), now(), 'completed', now(), now(), now() FROM generate_series(1, 60)", id)
	a.do("GET", list, key, nil).into(t, &all)
	require.Len(t, all, 50)
	require.Equal(t, http.StatusNoContent, a.do("DELETE", webhooksPath+"/"+id, key, nil).status)
	var left int
	require.NoError(t, a.pool.QueryRow(t.Context(), "SELECT count(*) FROM recoveries").Scan(&left))
	require.Zero(t, left)
}
