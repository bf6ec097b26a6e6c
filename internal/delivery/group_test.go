package delivery

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestDeliverer_RunGroup(t *testing.T) {
	t.Parallel()

	t.Run("SaysHowEachEnded", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		var hits atomic.Int32
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			hits.Add(1)
			if strings.HasPrefix(req.URL.Path, "/fail") {
				w.WriteHeader(http.StatusInternalServerError)
			}
		}))
		t.Cleanup(server.Close)
		e := r.storedElsewhere(t)
		var group Group
		add := func(path string) uuid.UUID {
			id := r.subscribe(t, server.URL+path, "")
			group.Deliveries = append(group.Deliveries, Pair{e.ID, id})
			return id
		}
		for range 20 {
			add("/well")
		}
		add("/fail")
		gone, disabled, queued := add("/gone"), add("/disabled"), add("/queued")
		r.execute(t, "DELETE FROM webhooks WHERE id = $1", gone)
		r.set(t, disabled, "is_active = false")
		r.set(t, queued, "queued = true")
		for _, process := range []*rig{r, newRigOn(t, r.pool)} { // the second after a crash
			sum, err := process.RunGroup(t.Context(), group)
			require.NoError(t, err)
			require.Equal(t, GroupResult{Counts: Counts{Delivered: 20, Retrying: 1, Skipped: 2, Queued: 1}, Ended: []Ended{
				{20, Result{Status: Failed, StatusCode: 500, Error: "HTTP 500", Retrying: true}},
				{21, Result{Status: Skipped, Error: WebhookGone}},
				{22, Result{Status: Skipped, Error: WebhookDisabled}},
				{23, Result{Status: Queued}},
			}}, sum)
			require.EqualValues(t, 21, hits.Load())
		}
		require.Equal(t, 21, r.count(t, "deliveries"))
	})

	t.Run("LeavesWhatFindsNoRoom", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t), newReceiver(t, 200)
		r.group, r.stint = make(chan struct{}, 1), time.Millisecond
		e := r.accepted(t)
		var group Group
		for range 5 {
			group.Deliveries = append(group.Deliveries, Pair{e.ID, r.subscribe(t, to.url, "")})
		}
		r.group <- struct{}{}
		sum, err := r.RunGroup(t.Context(), group)
		require.NoError(t, err)
		require.Equal(t, GroupResult{Left: 5}, sum)
		<-r.group
		for total := 0; total < 5; { // each call goes on
			sum, err = r.RunGroup(t.Context(), group)
			require.NoError(t, err)
			require.Equal(t, len(group.Deliveries), sum.Delivered+sum.Left)
			total += sum.Delivered
			group.Deliveries = group.Deliveries[sum.Delivered:]
		}
		require.Len(t, to.requests(), 5)
	})

	t.Run("ALargeAudienceLeavesRoom", func(t *testing.T) {
		t.Parallel()
		r, hangs, to := newRig(t), newReceiver(t, 200), newReceiver(t, 200)
		r.group, r.batch, r.stint = make(chan struct{}, 4), make(chan struct{}, 2), time.Minute
		_, release := hangs.held(t)
		e := r.accepted(t)
		large, small := Group{Batch: true}, Group{}
		for range 5 {
			large.Deliveries = append(large.Deliveries, Pair{e.ID, r.subscribe(t, hangs.url, "")})
			small.Deliveries = append(small.Deliveries, Pair{e.ID, r.subscribe(t, to.url, "")})
		}
		ended := make(chan GroupResult)
		go func() {
			sum, _ := r.RunGroup(context.Background(), large)
			ended <- sum
		}()
		require.Eventually(t, func() bool { return hangs.hits.Load() == 2 }, time.Minute, time.Millisecond)
		sum, err := r.RunGroup(t.Context(), small)
		require.NoError(t, err)
		require.Equal(t, GroupResult{Counts: Counts{Delivered: 5}}, sum)
		require.EqualValues(t, 2, hangs.hits.Load())
		release()
		require.Equal(t, 5, (<-ended).Total())
		require.Empty(t, r.group)
		require.Empty(t, r.batch)
	})

	t.Run("ErrorOfOneIsTheGroups", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t), newReceiver(t, 200)
		well, ill := r.subscribe(t, to.url, ""), r.subscribe(t, to.url, "")
		r.execute(t, "ALTER TABLE deliveries ADD CONSTRAINT ill CHECK (webhook_id <> '"+ill.String()+"')")
		e := r.storedElsewhere(t)
		group := Group{Deliveries: []Pair{{e.ID, ill}, {e.ID, well}}}
		_, err := r.RunGroup(t.Context(), group)
		require.ErrorContains(t, err, "not recorded")
		require.Equal(t, 1, r.deliveries(t, well), "the others are delivered all the same")
		r.execute(t, "ALTER TABLE deliveries DROP CONSTRAINT ill")
		sum, err := r.RunGroup(t.Context(), group)
		require.NoError(t, err)
		require.Equal(t, GroupResult{Counts: Counts{Delivered: 2}}, sum)
		require.Len(t, to.requests(), 3)
	})

	// It would keep the group's workflow from its end, and with it what that has yet to begin.
	t.Run("OneThatDoesNotOpenHoldsUpNoOther", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t), newReceiver(t, 200)
		well, sealed := r.subscribe(t, to.url, ""), r.subscribe(t, to.url, "")
		r.set(t, sealed, "secret = 'sealed with another keyset'")
		e := r.storedElsewhere(t)
		sum, err := r.RunGroup(t.Context(), Group{Deliveries: []Pair{{e.ID, sealed}, {e.ID, well}}})
		require.NoError(t, err)
		require.Equal(t, GroupResult{Counts: Counts{Delivered: 1, Queued: 1}, Ended: []Ended{{0, Result{Status: Queued}}}}, sum)
		require.Len(t, r.planned(t, sealed), 1)
		require.False(t, r.isQueued(t, sealed), "what comes next is tried at once")
	})

	// One that is larger than the room for all groups passes through it.
	t.Run("SharesARoom", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t), newReceiver(t, 200)
		r.group = make(chan struct{}, 3)
		hold, release := to.held(t)
		e := r.storedElsewhere(t)
		var group Group
		for range 30 {
			group.Deliveries = append(group.Deliveries, Pair{e.ID, r.subscribe(t, to.url, "")})
		}
		go func() {
			for i := range int32(len(group.Deliveries)) {
				to.arrived(t, min(i+3, 30))
				if hits := to.hits.Load(); hits > i+3 {
					t.Errorf("%d at once", hits-i)
				}
				hold <- struct{}{}
			}
			release()
		}()
		sum, err := r.RunGroup(t.Context(), group)
		require.NoError(t, err)
		require.Equal(t, GroupResult{Counts: Counts{Delivered: 30}}, sum)
	})
}
