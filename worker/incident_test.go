package worker_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/internal/subscriptions"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows"
)

// incident is a stack whose webhooks were disabled, by failures and by their owners, before some events.
type incident struct {
	*stack
	service *subscriptions.Service
	since   time.Time
	byUs    []uuid.UUID
	byOwner []uuid.UUID
	events  []string
}

func newIncident(t *testing.T, webhooks, bots, events int) *incident {
	s := &incident{stack: newStack(t, nil), since: time.Now().Add(-time.Minute)}
	s.service = &subscriptions.Service{Pool: s.pool, Temporal: s.client, Keyset: s.keyset, Retention: webhook.DefaultRetention, Logger: slog.New(slog.DiscardHandler)}
	_, err := s.pool.Exec(t.Context(), "INSERT INTO bots (id, name) SELECT 'bot-' || n, 'bot' FROM generate_series(0, $1::integer - 1) n", bots)
	require.NoError(t, err)
	rows := make([]dbtest.Webhook, webhooks+bots)
	for i := range rows {
		rows[i] = dbtest.Webhook{ID: uuid.Must(uuid.NewV7()), BotID: fmt.Sprintf("bot-%d", i%bots), URL: fmt.Sprintf("%s/%d", s.url, i)}
		if i < webhooks {
			s.byUs = append(s.byUs, rows[i].ID)
		} else {
			s.byOwner = append(s.byOwner, rows[i].ID)
		}
	}
	dbtest.AddWebhooks(t, s.pool, s.keyset, []string{"post.created"}, rows)
	_, err = s.pool.Exec(t.Context(), `UPDATE webhooks SET is_active = false, failure_count = 10, failure_class = 'timeout', disabled_at = now(),
		disabled_reason = CASE WHEN id = ANY ($1) THEN 'owner' ELSE 'failures' END`, s.byOwner)
	require.NoError(t, err)
	for i := range events {
		s.events = append(s.events, fmt.Sprintf("e%d", i))
		s.emit(t, s.events[i])
		result[workflows.Summary](t, s.client, "event-"+s.events[i])
	}
	return s
}

// recover is what an operator asks for: to count, or to recover.
func (s *incident) recover(t *testing.T, dryRun bool) subscriptions.Incident {
	t.Helper()
	i, err := s.service.RecoverIncident(t.Context(), subscriptions.IncidentInput{DisabledSince: &s.since}, dryRun, new(problem.Faults))
	require.NoError(t, err)
	return i
}

func (s *incident) progress(t *testing.T, id uuid.UUID) history.IncidentProgress {
	t.Helper()
	i, err := s.service.Incident(t.Context(), id)
	require.NoError(t, err)
	return i.Progress
}

// reaches waits until the incident has come so far.
func (s *incident) reaches(t *testing.T, id uuid.UUID, within time.Duration, is func(p history.IncidentProgress) bool) {
	t.Helper()
	require.Eventually(t, func() bool { return is(s.progress(t, id)) }, within, 50*time.Millisecond, "%+v", s.progress(t, id))
}

func (s *incident) set(t *testing.T, id uuid.UUID, state string) {
	t.Helper()
	_, err := s.service.SetIncidentState(t.Context(), id, state)
	require.NoError(t, err)
}

func (s *incident) enabled(t *testing.T, ids []uuid.UUID) (n int) {
	t.Helper()
	require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT count(*) FROM webhooks WHERE id = ANY ($1) AND is_active", ids).Scan(&n))
	return n
}

// requireAllGotAllOnce says that each webhook got each event once, and that those of owners got none and are disabled.
func (s *incident) requireAllGotAllOnce(t *testing.T) {
	t.Helper()
	require.Equal(t, len(s.byUs), s.enabled(t, s.byUs))
	require.Zero(t, s.enabled(t, s.byOwner))
	for i := range len(s.byUs) + len(s.byOwner) {
		want := 1
		if i >= len(s.byUs) {
			want = 0
		}
		for _, e := range s.events {
			require.Equal(t, want, s.count(fmt.Sprintf("/%d", i), e), "webhook %d, event %s", i, e)
		}
	}
}

// TestManyWebhooksOfAnIncident are enabled by one command and get what they missed, once, although the worker is replaced
// in the middle. They are more than are enabled in one step, and of more bots than are recovered at once.
func TestManyWebhooksOfAnIncident(t *testing.T) {
	t.Parallel()
	many := 120
	if os.Getenv("MATHUB_SOAK") != "" {
		many = 1000
	}
	s := newIncident(t, many, 50, 2)
	plan := s.recover(t, true)
	require.Equal(t, subscriptions.IncidentPlanned, plan.State)
	require.Equal(t, []int{many, 50, 1}, []int{plan.Plan.Webhooks, plan.Plan.Bots, plan.Plan.Hosts})
	require.Equal(t, 2*many, plan.Plan.Missed.Events)
	require.Zero(t, s.enabled(t, s.byUs), "a dry run changes nothing")

	id := s.recover(t, false).ID
	s.reaches(t, id, 3*time.Minute, func(p history.IncidentProgress) bool { return p.Recovered > 20 })
	s.stopWorkers()
	between := s.progress(t, id)
	require.Equal(t, history.IncidentRunning, between.State)
	require.Less(t, between.Recovered, many)
	s.startWorker(t, nil)
	s.reaches(t, id, 5*time.Minute, func(p history.IncidentProgress) bool { return p.State == history.IncidentCompleted })
	require.Equal(t, history.IncidentProgress{State: history.IncidentCompleted, Found: many, Enabled: many, Recovered: many, Reasons: []history.IncidentReason{}}, s.progress(t, id))
	s.requireAllGotAllOnce(t)
}

// TestAnIncidentIsPausedAndResumed: while it is paused, nothing is enabled and no recovery begins, but those that run go on.
func TestAnIncidentIsPausedAndResumed(t *testing.T) {
	t.Parallel()
	s := newIncident(t, 60, 12, 3)
	held, err := s.pool.Begin(t.Context()) // no recovery plans anything
	require.NoError(t, err)
	defer held.Rollback(context.Background()) //nolint:errcheck // unless it is committed
	_, err = held.Exec(t.Context(), "LOCK TABLE queue IN EXCLUSIVE MODE")
	require.NoError(t, err)
	id := s.recover(t, false).ID
	s.reaches(t, id, 3*time.Minute, func(p history.IncidentProgress) bool { return p.Recovering == 12 })
	s.set(t, id, history.IncidentPaused)
	enabled := s.enabled(t, s.byUs)
	require.NoError(t, held.Commit(t.Context()))
	s.reaches(t, id, 3*time.Minute, func(p history.IncidentProgress) bool { return p.Recovering == 0 })
	p := s.progress(t, id)
	require.Equal(t, []any{history.IncidentPaused, 12, enabled}, []any{p.State, p.Recovered, s.enabled(t, s.byUs)})
	workflow := workflows.IncidentWorkflowID(id)
	require.Contains(t, s.details(t, workflow), "paused")
	s.set(t, id, history.IncidentRunning)
	s.reaches(t, id, 2*time.Minute, func(p history.IncidentProgress) bool { return p.State == history.IncidentCompleted })
	s.requireAllGotAllOnce(t)
	done := result[history.IncidentStep](t, s.client, workflow)
	require.Equal(t, []any{true, 60}, []any{done.Ended, done.Recovered})
	require.Contains(t, s.details(t, workflow), "**completed**: of 60 webhooks that failures disabled, 60 enabled, 0 skipped.")
	s.keep(t, workflow, "recover_incident")
}

// TestAnIncidentIsCancelled by the API, or by who cancels its workflow in the Web UI.
func TestAnIncidentIsCancelled(t *testing.T) {
	t.Parallel()
	for name, cancel := range map[string]func(s *incident, id uuid.UUID){
		"by the API": func(s *incident, id uuid.UUID) { s.set(t, id, history.IncidentCancelled) },
		"in the Web UI": func(s *incident, id uuid.UUID) {
			require.NoError(t, s.client.CancelWorkflow(t.Context(), workflows.IncidentWorkflowID(id), ""))
		},
		"after it was terminated in the Web UI": func(s *incident, id uuid.UUID) {
			require.NoError(t, s.client.TerminateWorkflow(t.Context(), workflows.IncidentWorkflowID(id), "", ""))
			s.set(t, id, history.IncidentCancelled)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newIncident(t, 60, 2, 12)
			release := make(chan struct{})
			s.answer(func(http.ResponseWriter, *http.Request) { <-release })
			t.Cleanup(func() { close(release) })
			id := s.recover(t, false).ID
			s.reaches(t, id, 3*time.Minute, func(p history.IncidentProgress) bool { return p.Recovering == 2 })
			cancel(s, id)
			s.reaches(t, id, 3*time.Minute, func(p history.IncidentProgress) bool {
				return p.State == history.IncidentCancelled && p.Recovering == 0
			})
			p := s.progress(t, id)
			require.Equal(t, []any{2, 0, p.Enabled}, []any{p.Failed, p.Recovered, s.enabled(t, s.byUs)}, "what is enabled stays enabled")
			require.Equal(t, []history.IncidentReason{{State: "failed", Reason: "recovery cancelled", Webhooks: 2}}, p.Reasons)
		})
	}
}

// TestAnIncidentThatNobodyStartedIsStarted, as after a crash, by the sweep.
func TestAnIncidentThatNobodyStartedIsStarted(t *testing.T) {
	t.Parallel()
	s := newIncident(t, 3, 1, 1)
	queue := history.Queue{Pool: s.pool}
	i, err := queue.StartIncident(t.Context(), history.IncidentFilter{Since: s.since, Until: time.Now()}, history.IncidentPlan{})
	require.NoError(t, err)
	_, err = s.pool.Exec(t.Context(), "UPDATE incidents SET updated_at = now() - interval '1 minute'")
	require.NoError(t, err)
	s.reaches(t, i.ID, 3*time.Minute, func(p history.IncidentProgress) bool { return p.State == history.IncidentCompleted })
	s.requireAllGotAllOnce(t)
}
