package ops

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows"
	"github.com/mathub/webhooks/workflows/temporaltest"
)

func found(t *testing.T, o Overview) map[string]Finding {
	t.Helper()
	of := map[string]Finding{}
	for _, f := range o.Findings {
		require.NotEmpty(t, f.Summary, f.Name)
		of[f.Name] = f
	}
	require.Len(t, of, len(o.Findings))
	return of
}

func (b *bed) overview() Overview {
	b.t.Helper()
	o, err := b.Overview(b.t.Context())
	require.NoError(b.t, err)
	return o
}

func TestService_Overview(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.Temporal = temporaltest.New(t)
	b.Retention = webhook.DefaultRetention
	require.NoError(t, workflows.ScheduleRemoval(t.Context(), b.Temporal, b.Retention))
	// The schedules of a new namespace answer once the server has a worker for it.
	require.Eventually(t, func() bool { return !b.overview().IsWrong() }, 3*time.Minute, 100*time.Millisecond)

	b.Service.Pool = trouble(t).Pool
	b.execute("UPDATE bots SET is_active = false, suspended_at = now(), suspended_reason = 'leaked' WHERE id = 's'")
	b.execute("INSERT INTO pauses (scope, value, reason) VALUES ('host', 'three.example', 'moves')")
	b.execute("INSERT INTO fuses (class) VALUES ('dns')")
	b.execute(`INSERT INTO recoveries (id, webhook_id, since, until, begin_at, upto, after_time)
		SELECT gen_random_uuid(), id, now(), now(), now(), now(), now() FROM webhooks WHERE bot_id = 'b' AND is_active`)
	b.OutboundAccess = func(context.Context) egress.Access {
		return egress.Access{DNS: egress.AccessFailed, Network: egress.AccessOK, Cause: "dns: timeout"}
	}
	o := b.overview()
	require.True(t, o.IsWrong())
	of := found(t, o)
	for name, want := range map[string]struct {
		count   int
		isWrong bool
		texts   []string
	}{
		"disabled":   {1, true, []string{"a one.example disabled "}},
		"failing":    {3, true, []string{"b two.example 7 failures in a row: dns: 3", "a two.example:8443 3 failures in a row", "a one.example 3 failures in a row"}},
		"late":       {2, true, []string{"a one.example oldest due ", "a two.example:8443 oldest due "}},
		"waiting":    {4, false, []string{"b two.example 5 waiting", "a two.example:8443 3 waiting", "a one.example 3 waiting", "a one.example 1 waiting"}},
		"slow":       {0, false, nil},
		"suspended":  {1, false, []string{"s  since "}},
		"paused":     {1, false, []string{"  deliveries to host three.example since "}},
		"fuses":      {1, true, []string{"  dns since "}},
		"outbound":   {1, true, []string{"  DNS failed: dns: timeout"}},
		"recoveries": {1, false, []string{"b two.example since "}},
		"retention":  {0, false, nil},
	} {
		f := of[name]
		require.Equal(t, want.count, f.Count, "%+v", f)
		require.Equal(t, want.isWrong, f.IsWrong, "%+v", f)
		require.Len(t, f.Items, len(want.texts), "%+v", f)
		for i, text := range want.texts {
			item := f.Items[i]
			require.Contains(t, item.BotID+" "+item.Host+" "+item.Text, text, name)
		}
		require.Equal(t, f.Name != "retention", f.Command != "", name)
	}
	require.Contains(t, of["suspended"].Items[0].Text, ": leaked")
}

// TestService_Overview_OutagesOfWorkers: a process that delivers nothing knows from the workers, for as long as they say so.
func TestService_Overview_OutagesOfWorkers(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.Temporal = temporaltest.New(t)
	outbound := func() Finding { return found(t, b.overview())["outbound"] }
	require.False(t, outbound().IsWrong)
	var fails atomic.Bool
	fails.Store(true)
	ctx, stop := context.WithCancel(t.Context())
	var reporting sync.WaitGroup
	reporting.Go(func() {
		ReportOutages(ctx, b.Service.Pool, slog.New(slog.DiscardHandler), "7@host", func(context.Context) egress.Access {
			if fails.Load() {
				return egress.Access{DNS: egress.AccessFailed, Network: egress.AccessOK, Cause: "dns: timeout"}
			}
			return egress.Access{DNS: egress.AccessOK, Network: egress.AccessOK}
		})
	})
	defer reporting.Wait()
	defer stop()
	require.Eventually(t, func() bool { return outbound().IsWrong }, 3*time.Minute, 50*time.Millisecond)
	require.Contains(t, outbound().Items[0].Text, "worker 7@host since ")
	require.Contains(t, outbound().Items[0].Text, ": dns: timeout")
	fails.Store(false)
	require.Eventually(t, func() bool { return !outbound().IsWrong }, 3*time.Minute, 50*time.Millisecond)

	b.execute("INSERT INTO outages (worker, cause, seen_at) VALUES ('dead', 'dns: timeout', now() - interval '1 minute')")
	require.False(t, outbound().IsWrong, "what a dead worker said is over")
}

func TestService_Overview_TemporalIsAway(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	var err error
	b.Temporal, err = client.NewLazyClient(client.Options{HostPort: "127.0.0.1:1", Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler))})
	require.NoError(t, err)
	t.Cleanup(b.Temporal.Close)
	b.Retention = webhook.DefaultRetention
	of := found(t, b.overview())
	require.True(t, of["slow"].IsWrong)
	require.Equal(t, "Temporal does not answer", of["slow"].Summary)
	late, err := b.Late(t.Context(), DefaultLate)
	require.NoError(t, err)
	require.True(t, late.TemporalAway)
	require.True(t, of["retention"].IsWrong)
}

func TestService_Overview_Retention(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.Temporal = temporaltest.New(t)
	retention := func() Finding { return found(t, b.overview())["retention"] }
	becomes := func(summary string) { // on a busy machine Temporal may not answer in time
		t.Helper()
		require.Eventually(t, func() bool { return strings.Contains(retention().Summary, summary) }, 3*time.Minute, 100*time.Millisecond)
	}
	require.False(t, retention().IsWrong, "for ever")
	b.Retention = webhook.DefaultRetention
	becomes("is missing")
	require.NoError(t, workflows.ScheduleRemoval(t.Context(), b.Temporal, b.Retention))
	require.Eventually(t, func() bool { return !retention().IsWrong }, 3*time.Minute, 100*time.Millisecond)
	require.NoError(t, b.Temporal.ScheduleClient().GetHandle(t.Context(), workflows.RetentionSchedule).Pause(t.Context(), client.SchedulePauseOptions{}))
	becomes("paused")

	began := time.Now().Add(-removalOverdue - time.Minute)
	none := &client.ScheduleDescription{Info: client.ScheduleInfo{CreatedAt: began}}
	require.Contains(t, stopped(none, time.Now()), "not been removed since")
	none.Info.RunningWorkflows = []client.ScheduleWorkflowExecution{{}}
	require.Empty(t, stopped(none, time.Now()), "it goes on")
	none.Info.RunningWorkflows, none.Info.RecentActions = nil, []client.ScheduleActionResult{{ActualTime: began}, {ActualTime: time.Now()}}
	require.Empty(t, stopped(none, time.Now()))
}

func TestService_Late(t *testing.T) {
	t.Parallel()
	b := trouble(t)
	b.Temporal = temporaltest.New(t)
	b.UI = UI{"http://ui.example/", "a b"}
	for id, kind := range map[string]string{emit.WorkflowID("post-p1"): "DeliverEvent", "events-1": "DeliverEvents", "webhook-1": "WebhookQueue"} {
		_, err := b.Temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: "nobody's"}, kind)
		require.NoError(t, err)
	}
	late, err := b.Late(t.Context(), DefaultLate)
	require.NoError(t, err)
	require.Equal(t, []int{7, 2}, numbers(late.Queues))
	require.Empty(t, late.Workflows, "they have just begun")
	require.False(t, late.MoreQueues)

	later := time.Now().Add(time.Minute)
	var running []Workflow
	require.Eventually(t, func() bool {
		running, _, err = b.lateWorkflows(t.Context(), later, 10)
		return err == nil && len(running) == 2
	}, 3*time.Minute, 50*time.Millisecond)
	events := map[string]string{}
	for _, w := range running {
		events[w.ID] = w.EventID
		require.Equal(t, "http://ui.example/namespaces/a%20b/workflows/"+w.ID+"/"+w.RunID, *w.URL)
		require.WithinDuration(t, time.Now(), w.StartedAt, time.Minute)
	}
	require.Equal(t, map[string]string{"event-post-p1": "post-p1", "events-1": ""}, events)
	one, more, err := b.lateWorkflows(t.Context(), later, 1)
	require.NoError(t, err)
	require.Len(t, one, 1)
	require.True(t, more)
	queues, more, err := b.lateQueues(t.Context(), later, 1)
	require.NoError(t, err)
	require.Equal(t, []int{7}, numbers(queues))
	require.True(t, more)

	b.execute("INSERT INTO pauses (scope, value, reason) SELECT 'host', host_of(origin), 'moves' FROM webhooks WHERE id = '" + queues[0].ID.String() + "'")
	left, _, err := b.lateQueues(t.Context(), later, 1)
	require.NoError(t, err)
	require.Len(t, left, 1, "what is paused is passed over")
	require.NotEqual(t, queues[0].ID, left[0].ID)
	b.execute("INSERT INTO pauses (scope, value, reason) VALUES ('all', '', 'moves')")
	left, more, err = b.lateQueues(t.Context(), later, 1)
	require.NoError(t, err)
	require.Empty(t, left)
	require.False(t, more)

	_, err = b.Late(t.Context(), time.Second)
	require.ErrorContains(t, err, "minutes: ")
}
