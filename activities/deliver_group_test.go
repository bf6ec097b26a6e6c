package activities

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// TestAGroupEndsOnceNothingMoreComes: who hangs stays under way, is sent to once, and is gone on with by Deliver.
func TestAGroupEndsOnceNothingMoreComes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	release := make(chan struct{})
	var hung atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch {
		case strings.HasPrefix(req.URL.Path, "/hang"):
			hung.Add(1)
			<-release
		case strings.HasPrefix(req.URL.Path, "/fail"):
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	t.Cleanup(server.Close)
	e := anEvent()
	group := Group{EventID: e.ID}
	add := func(path string) uuid.UUID {
		id := r.subscribe(t, server.URL+path, "")
		group.WebhookIDs = append(group.WebhookIDs, id)
		return id
	}
	for range 20 {
		add("/well")
	}
	hanging, failing, gone, disabled := add("/hang"), add("/fail"), add("/gone"), add("/disabled")
	r.accept(t, e, "run")
	execute(t, r.pool, "DELETE FROM webhooks WHERE id = $1", gone)
	execute(t, r.pool, "UPDATE webhooks SET is_active = false WHERE id = $1", disabled)
	r.handoff = newHandoff() // so that they are read again

	began := time.Now()
	sum, err := r.DeliverGroup(t.Context(), group)
	require.NoError(t, err)
	require.Less(t, time.Since(began), 4*time.Second, "well before the one that hangs times out")
	require.Equal(t, 20, sum.Delivered)
	require.Equal(t, []uuid.UUID{hanging}, sum.Open)
	require.Len(t, sum.Ended, 3)
	require.Equal(t, Result{Status: Skipped, Error: WebhookGone}, sum.Ended[gone])
	require.Equal(t, Result{Status: Skipped, Error: WebhookDisabled}, sum.Ended[disabled])
	require.Equal(t, "HTTP 500", sum.Ended[failing].Error)
	require.Positive(t, sum.Ended[failing].RetryInMs)
	for _, id := range group.WebhookIDs[:20] {
		require.Len(t, historyOf(t, r.pool, id), 1)
	}
	require.Empty(t, historyOf(t, r.pool, hanging))

	close(release)
	result, err := r.Deliver(t.Context(), Delivery{EventID: e.ID, WebhookID: hanging, Attempt: 1})
	require.NoError(t, err)
	require.Equal(t, Delivered, result.Status)
	require.Equal(t, int32(1), hung.Load())
	require.Len(t, historyOf(t, r.pool, hanging), 1)

	// After a crash the whole group is asked for again, and nothing is sent again.
	again, err := r.DeliverGroup(t.Context(), group)
	require.NoError(t, err)
	require.Equal(t, 21, again.Delivered)
	require.Empty(t, again.Open)
	require.Equal(t, int32(1), hung.Load())
	require.Equal(t, 22, count(t, r, "SELECT count(*) FROM deliveries"))
}

// TestGroupsShareARoom: one larger than the room passes through it, and all of it is delivered.
func TestGroupsShareARoom(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.groups = make(chan struct{}, 3)
	var at, most atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		for now, seen := at.Add(1), most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
		}
		time.Sleep(5 * time.Millisecond)
		at.Add(-1)
	}))
	t.Cleanup(server.Close)
	e := anEvent()
	group := Group{EventID: e.ID}
	for range 30 {
		group.WebhookIDs = append(group.WebhookIDs, r.subscribe(t, server.URL, ""))
	}
	r.accept(t, e, "run")
	sum, err := r.DeliverGroup(t.Context(), group)
	require.NoError(t, err)
	require.Equal(t, GroupResult{Delivered: 30}, sum)
	require.LessOrEqual(t, most.Load(), int32(3))
	require.Greater(t, most.Load(), int32(1), "they go side by side")
}

func count(t *testing.T, r *rig, sql string) (n int) {
	t.Helper()
	require.NoError(t, r.pool.QueryRow(t.Context(), sql).Scan(&n))
	return n
}
