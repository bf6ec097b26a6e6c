package history

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/internal/testutil/fuzzing"
	"github.com/mathub/webhooks/webhook"
)

// queueModel is what a webhook and its queue are to be: the rules of design once more, in as few words as they take.
type queueModel struct {
	active, queued  bool
	count, early    int
	generation, run int32
	planned         map[string]int  // the number of the attempt, by event
	due             map[string]bool // now
	recorded        map[uuid.UUID]bool
	oldGeneration   int32 // what a process that has not looked since believes
	oldRun          int32
	last            map[string]Attempt // by event
	recorder        *Recorder
	queue           *Queue
	pool            *pgxpool.Pool
	webhook         uuid.UUID
	events          [3]string
	steps           []string
}

func newQueueModel(t testing.TB, pool *pgxpool.Pool, r *Recorder) *queueModel {
	m := &queueModel{
		active: true, planned: map[string]int{}, due: map[string]bool{}, recorded: map[uuid.UUID]bool{}, last: map[string]Attempt{},
		recorder: r, queue: &Queue{Pool: pool}, pool: pool, webhook: addWebhook(t, pool),
	}
	for i := range m.events {
		m.events[i] = webhook.NewID()
	}
	return m
}

// record records an attempt at an event, of a process that has just read the webhook, or has not since it was made.
func (m *queueModel) record(t testing.TB, event string, success, stale, retries bool) {
	a := outcome(m.webhook, success)
	a.EventID, a.Number, a.Queued = event, m.last[event].Number+1, true
	a.Step = a.Number
	a.DeliveryID = webhook.DeliveryID(time.Unix(1_700_000_000, 0), webhook.AttemptKey(event, m.webhook, a.Number))
	a.Generation, a.FailureRun = m.generation, 0
	if m.count > 0 {
		a.FailureRun = m.run
	}
	if stale {
		a.Generation, a.FailureRun = m.oldGeneration, m.oldRun
	}
	if retries {
		a.RetryIn = time.Hour
	}
	m.last[event] = a
	record(t, m.recorder, a)
	m.after(a)
}

// after is what a recorded attempt makes of the model.
func (m *queueModel) after(a Attempt) {
	if m.recorded[a.DeliveryID] {
		return
	}
	m.recorded[a.DeliveryID] = true
	if m.planned[a.EventID] > 0 && m.planned[a.EventID] <= a.Number {
		m.forget(a.EventID)
	}
	switch {
	case a.Success:
		m.count, m.early = 0, 0
	case a.Generation != m.generation:
	case m.count == 0:
		m.count, m.early, m.run, m.queued = 1, 1, m.run+1, true
	case a.FailureRun == m.run:
		m.count, m.queued = m.count+1, true
	case m.early < 5:
		m.count, m.early, m.queued = m.count+1, m.early+1, true
	default:
		m.queued = true
	}
	if m.count >= 10 {
		m.active = false
	}
	if !m.active {
		clear(m.planned)
		clear(m.due)
	} else if !a.Success && a.RetryIn > 0 && m.planned[a.EventID] == 0 {
		m.planned[a.EventID] = a.Number + 1
	}
}

func (m *queueModel) forget(event string) {
	delete(m.planned, event)
	delete(m.due, event)
}

// step does what two bytes say.
func (m *queueModel) step(t testing.TB, what, how byte) {
	ctx, event := t.Context(), m.events[how%3]
	stale, retries := how&4 != 0, how&8 == 0
	names := []string{"fail", "fail", "fail", "fail", "succeed", "repeat", "look", "enable", "plan", "hurry", "remove", "postpone"}
	name := names[int(what)%len(names)]
	m.steps = append(m.steps, fmt.Sprintf("%s event %d, stale %t, retries %t", name, how%3, stale, retries))
	switch name {
	case "fail", "succeed":
		m.record(t, event, name == "succeed", stale, retries)
	case "repeat":
		if a, was := m.last[event]; was && a.DeliveryID != uuid.Nil {
			record(t, m.recorder, a)
			m.after(a)
		}
	case "look":
		_, err := m.queue.Look(ctx, m.webhook, 10)
		require.NoError(t, err)
		if m.queued && m.count == 0 && len(m.due) == 0 {
			m.queued = false
		}
	case "enable":
		m.oldGeneration, m.oldRun = m.generation, m.run
		execute(t, m.pool, "UPDATE webhooks SET is_active = true, failure_count = 0, early_failures = 0, generation = generation + 1, disabled_at = NULL, disabled_reason = NULL, disabled_by = NULL WHERE id = $1", m.webhook)
		m.active, m.count, m.early, m.generation = true, 0, 0, m.generation+1
	case "plan":
		if m.planned[event] == 0 {
			n := m.last[event].Number + 1
			enqueue(t, m.recorder, Plan{WebhookID: m.webhook, EventID: event, Number: n, Step: n, Trigger: webhook.TriggerEvent})
			if m.active {
				m.planned[event], m.due[event], m.queued = n, true, true
			}
		}
	case "hurry":
		_, err := m.queue.RetryNow(ctx, m.webhook, event)
		require.NoError(t, err)
		if m.planned[event] > 0 {
			m.due[event] = true
		}
	case "remove":
		require.NoError(t, m.queue.Remove(ctx, m.webhook, Row{EventID: event, Attempt: m.planned[event]}))
		m.forget(event)
	case "postpone":
		require.NoError(t, m.queue.Postpone(ctx, m.webhook, Row{EventID: event, Attempt: m.planned[event], Trigger: webhook.TriggerRetry}, time.Hour))
		delete(m.due, event)
	}
}

// check holds Postgres to the model.
func (m *queueModel) check(t testing.TB) {
	s := stateOf(t, m.pool, m.webhook)
	require.Equal(t, []any{m.active, m.queued, int32(m.count), int32(m.early), m.generation, m.run},
		[]any{s.Active, s.Queued, s.FailureCount, s.EarlyFailures, s.Generation, s.FailureRun}, "%v", m.steps)
	planned, due := map[string]int{}, map[string]bool{}
	for _, row := range queueOf(t, m.pool, m.webhook) {
		planned[row.EventID] = row.Attempt
		if row.DueIn <= 0 {
			due[row.EventID] = true
		}
	}
	require.Equal(t, m.planned, planned, "%v", m.steps)
	require.Equal(t, m.due, due, "%v", m.steps)
	require.Equal(t, len(m.recorded), count(t, m.pool, "deliveries WHERE webhook_id = $1", m.webhook), "%v", m.steps)
}

// runSteps runs a program of pairs of bytes on a webhook of its own.
func runSteps(t testing.TB, pool *pgxpool.Pool, r *Recorder, program []byte) (steps int) {
	m := newQueueModel(t, pool, r)
	for i := 0; i+1 < len(program) && i < 200; i += 2 {
		m.step(t, program[i], program[i+1])
		m.check(t)
		steps++
	}
	_, err := pool.Exec(context.Background(), "DELETE FROM webhooks WHERE id = $1", m.webhook)
	require.NoError(t, err)
	_, err = pool.Exec(context.Background(), "DELETE FROM deliveries WHERE webhook_id = $1", m.webhook)
	require.NoError(t, err)
	return steps
}

// FuzzQueue holds the queue's transitions to a model: failures, successes, repeats, enablings and what people ask for, in any order.
func FuzzQueue(f *testing.F) {
	f.Add([]byte{0, 0, 6, 0, 4, 0, 6, 0})
	f.Add([]byte{0, 0, 0, 1, 0, 2, 0, 0, 0, 1, 0, 2, 0, 0, 0, 1, 0, 2, 0, 0, 7, 0, 0, 4, 4, 1, 6, 0})
	f.Add([]byte{8, 0, 6, 0, 4, 0, 6, 0, 0, 1, 9, 1, 11, 1, 10, 1, 5, 1})
	pool := dbtest.New(f)
	r, _ := newTestRecorder(f, pool)
	f.Fuzz(func(t *testing.T, program []byte) { runSteps(t, pool, r, program) })
}

// TestNumberedInputs is FuzzQueue's long form: see fuzzing.Numbered. An input has 40 transitions.
func TestNumberedInputs(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	r, _ := newTestRecorder(t, pool)
	corpus := fuzzing.KeepCorpus("FuzzQueue")
	fuzzing.Numbered(t, 20, func(t *testing.T) func(n uint64) int {
		return func(n uint64) int {
			random := rand.New(rand.NewPCG(n, 1))
			program := make([]byte, 80)
			for i := range program {
				program[i] = byte(random.UintN(256))
			}
			defer func() { corpus.Offer(t, program) }()
			return runSteps(t, pool, r, program)
		}
	})
}
