package worker_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/activities"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows"
	"github.com/mathub/webhooks/workflows/temporaltest"
)

// byHand starts a workflow as anybody can who reaches Temporal, and waits for its end: it never loops.
func (s *stack) byHand(t *testing.T, id, workflow string, input ...any) error {
	t.Helper()
	if id == "" {
		id = "by-hand-" + uuid.NewString()
	}
	run, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{
		ID: id, TaskQueue: workflows.TaskQueue, WorkflowExecutionTimeout: 5 * time.Minute,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: time.Hour}, // so that a failure that is not for good is none
	}, workflow, input...)
	require.NoError(t, err)
	return run.Get(t.Context(), nil)
}

// requireRefused: for good, by an error that names what is wrong.
func requireRefused(t *testing.T, err error, names string) {
	t.Helper()
	var fault *temporal.ApplicationError
	require.ErrorAs(t, err, &fault)
	require.True(t, fault.NonRetryable(), "%v", err)
	require.Contains(t, []string{activities.InvalidInput, workflows.InvalidEventError}, fault.Type(), "%v", err)
	require.Contains(t, fault.Error(), names)
}

// TestAWorkflowStartedByHandFailsAtOnce: each with whatever it may be started with.
func TestAWorkflowStartedByHandFailsAtOnce(t *testing.T) {
	t.Parallel()
	s := newStack(t, webhook.DefaultSchedule)
	id := s.subscribe(t, "/")
	many := make([]string, 100_000)
	for i := range many {
		many[i] = "e"
	}
	inputs := map[string][]any{
		"nothing": {}, "{}": {map[string]any{}}, "null": {nil}, "[]": {[]string{}}, "text": {"text"}, "number": {5}, "negative": {-1}, "huge": {1e308}, "bool": {true},
		"bytes": {[]byte("{}")}, "many": {many}, "manyEvents": {map[string]any{"eventId": many, "webhookId": many, "target": many, "done": many, "event": many}},
		"wrongTypes": {map[string]any{"eventId": 5, "webhookId": "no uuid", "target": "x", "number": "one", "window": "wide", "generation": "x", "done": 5, "page": 7, "data": 1}},
		"hugeNumbers": {map[string]any{
			"eventId": "e", "webhookId": id, "target": map[string]any{"webhookId": id}, "number": 1e300, "window": 1e300, "generation": 1e300,
			"done": map[string]any{"events": 1e300}, "page": map[string]any{"upto": 1e300},
		}},
		"negativeNumbers": {map[string]any{
			"eventId": "e", "webhookId": id, "target": map[string]any{"webhookId": id}, "number": -5, "window": -5, "generation": -5,
			"done": map[string]any{"events": -5}, "page": map[string]any{"after": uuid.Max}, "sum": map[string]any{"webhooks": -5},
		}},
	}
	// With nothing to say, RemoveExpired is what the schedule starts.
	fine := map[string][]string{"RemoveExpired": {"{}"}}
	for workflow := range workflows.Registered() {
		for name, input := range inputs {
			t.Run(workflow+"/"+name, func(t *testing.T) {
				t.Parallel()
				err := s.byHand(t, "", workflow, input...)
				if slices.Contains(fine[workflow], name) {
					require.NoError(t, err)
					return
				}
				requireRefused(t, err, "")
			})
		}
	}
	t.Cleanup(func() {
		require.Empty(t, s.all(), "nothing was sent")
	})
}

// all is what was received, by path and webhook-id.
func (s *stack) all() (received []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for what := range s.received {
		received = append(received, what)
	}
	return received
}

// ofBot is a webhook of another bot than subscribe's.
func (s *stack) ofBot(t *testing.T, bot, path string) uuid.UUID {
	t.Helper()
	id := s.subscribe(t, path)
	_, err := s.pool.Exec(t.Context(), "INSERT INTO bots (id, name) VALUES ($1, $1) ON CONFLICT DO NOTHING", bot)
	require.NoError(t, err)
	_, err = s.pool.Exec(t.Context(), "UPDATE webhooks SET bot_id = $2, events = '{mention,post.created}' WHERE id = $1", id, bot)
	require.NoError(t, err)
	return id
}

// TestNoWorkflowSendsAnEventToABotOutsideItsAudience, whatever it is told.
func TestNoWorkflowSendsAnEventToABotOutsideItsAudience(t *testing.T) {
	t.Parallel()
	s := newStack(t, webhook.Schedule{time.Hour})
	mine, other := s.ofBot(t, "mine", "/mine"), s.ofBot(t, "other", "/other")
	event := map[string]any{"id": "secret", "event": "mention", "botIds": []string{"mine"}, "data": map[string]any{"body": "private"}}
	require.NoError(t, s.byHand(t, "event-secret", "DeliverEvent", event))
	require.Equal(t, 1, s.count("/mine", "secret"))

	redeliver := func(number int) error {
		return s.byHand(t, fmt.Sprintf("redeliver-secret-%s-%d", other, number), "Redeliver", delivery.Attempt{EventID: "secret", WebhookID: other, Number: number})
	}
	requireRefused(t, redeliver(1), "eventId")
	requireRefused(t, redeliver(1<<31-1), "eventId")
	requireRefused(t, s.byHand(t, "test-secret", "SendTest", workflows.TestInput{WebhookID: other}), "eventId")
	requireRefused(t, s.byHand(t, "secret", "SendTest", workflows.TestInput{WebhookID: other}), "workflow id")
	require.NoError(t, s.byHand(t, "", "DeliverBatch", workflows.BatchInput{EventID: "secret", EventType: webhook.PostCreated, Page: delivery.Page{Upto: uuid.Max}}))
	// Its queue, where a row stands that nobody of ours has put there, and its recovery.
	for _, trigger := range []string{"event", "retry", "redeliver", "recover", "test"} {
		_, err := s.pool.Exec(t.Context(), "INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at) VALUES ($1, 'secret', 1, 1, $2::text::delivery_trigger, now())", other, trigger)
		require.NoError(t, err)
		require.NoError(t, s.byHand(t, workflows.QueueWorkflowID(other), "WebhookQueue", workflows.QueueInput{Target: s.targetOf(other, "other")}))
	}
	require.NoError(t, s.byHand(t, "recover-"+other.String(), "Recover", s.targetOf(other, "other")))
	require.Zero(t, s.count("/other", "secret"))
	var rows int
	require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT count(*) FROM deliveries WHERE webhook_id = $1", other).Scan(&rows))
	require.Zero(t, rows, "nor can its bot read it")
	require.Equal(t, 1, s.count("/mine", "secret"))

	// A number that no attempt has stays out of the history, where it would end all further redelivering.
	err := s.byHand(t, fmt.Sprintf("redeliver-secret-%s-%d", mine, 1<<31-1), "Redeliver", delivery.Attempt{EventID: "secret", WebhookID: mine, Number: 1<<31 - 1})
	requireRefused(t, err, "number")
	_, _, err = workflows.StartRedelivery(t.Context(), s.client, s.attributes, s.targetOf(mine, "mine"), "secret", 2)
	require.NoError(t, err)
	require.Equal(t, 2, s.count("/mine", "secret"))
}

func (s *stack) targetOf(id uuid.UUID, bot string) delivery.Target {
	t := s.target(id)
	t.BotID = bot
	return t
}

// TestALeaseIsNotBrokenByHand: a workflow whose id is a lease, or whose input takes another bot's share.
func TestALeaseIsNotBrokenByHand(t *testing.T) {
	t.Parallel()
	s := newStack(t, webhook.Schedule{time.Hour})
	id := s.subscribe(t, "/")
	target := s.target(id)
	requireRefused(t, s.byHand(t, "", "WebhookQueue", workflows.QueueInput{Target: target}), "workflow id")
	requireRefused(t, s.byHand(t, "", "Recover", target), "workflow id")
	requireRefused(t, s.byHand(t, "", "NotifyDisabled", delivery.Notice{WebhookID: id, BotID: "bot"}), "workflow id")
	requireRefused(t, s.byHand(t, "", "NotifyDisabled", delivery.Notice{Kind: "other", WebhookID: id, BotID: "bot"}), "kind")
	requireRefused(t, s.byHand(t, workflows.QueueWorkflowID(id), "WebhookQueue", workflows.QueueInput{Target: s.targetOf(id, "another")}), "botId")
	requireRefused(t, s.byHand(t, workflows.QueueWorkflowID(id), "WebhookQueue", workflows.QueueInput{Target: target, Window: 1 << 30}), "window")
	requireRefused(t, s.byHand(t, "", "DeliverBatch", workflows.BatchInput{EventID: "none", Page: delivery.Page{Upto: uuid.Max}}), "eventId")
}

// TestAQueueGoesOnWhoeverHasItsID: a workflow of another type, or on a task queue that nobody serves, takes the queue's signals.
func TestAQueueGoesOnWhoeverHasItsID(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	for kind, queue := range map[string]string{"Mistyped": workflows.TaskQueue, "WebhookQueue": "mistyped"} {
		id := s.subscribe(t, "/"+kind)
		run, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: workflows.QueueWorkflowID(id), TaskQueue: queue}, kind)
		require.NoError(t, err)
		event := "of-" + kind
		_, err = s.pool.Exec(t.Context(), "INSERT INTO events (id, type, payload, run_id) VALUES ($1, 'post.created', '{}', 'r')", event)
		require.NoError(t, err)
		_, err = s.pool.Exec(t.Context(), "INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at) VALUES ($1, $2, 1, 1, 'event', now() - interval '1 minute')", id, event)
		require.NoError(t, err)
		require.NoError(t, workflows.WakeQueue(t.Context(), s.client, nil, s.target(id)), "nothing is wrong, says Temporal")
		_, err = s.pool.Exec(t.Context(), "UPDATE queue_sweeps SET began_at = '-infinity'") // the next sweep begins at once
		require.NoError(t, err)
		s.awaitDelivery(t, delivery.First(event, id))
		require.Equal(t, 1, s.count("/"+kind, event))
		var ended *temporal.TerminatedError
		require.ErrorAs(t, run.Get(t.Context(), nil), &ended)
	}
}

// TestAQueueGoesOnThoughItsHistoryDoesNotReplay: a run that another version's code began, or that code of ours began which
// does not do the same twice, fails at each step. Another takes its place.
func TestAQueueGoesOnThoughItsHistoryDoesNotReplay(t *testing.T) {
	t.Parallel()
	s := &stack{client: temporaltest.New(t)}
	id := uuid.Must(uuid.NewV7())
	another := sdkworker.New(s.client, workflows.TaskQueue, sdkworker.Options{})
	another.RegisterWorkflowWithOptions(func(ctx workflow.Context, _ workflows.QueueInput) error {
		_ = workflow.Sleep(ctx, time.Millisecond)
		return workflow.Sleep(ctx, time.Hour)
	}, workflow.RegisterOptions{Name: "WebhookQueue"})
	require.NoError(t, another.Start())
	run, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: workflows.QueueWorkflowID(id), TaskQueue: workflows.TaskQueue},
		"WebhookQueue", workflows.QueueInput{Target: delivery.Target{WebhookID: id, BotID: "bot"}})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		described, err := s.client.DescribeWorkflowExecution(t.Context(), run.GetID(), "")
		return err == nil && described.GetWorkflowExecutionInfo().GetHistoryLength() > 8 // the second timer has been started
	}, 3*time.Minute, 20*time.Millisecond)
	another.Stop()

	start(t, s, nil)
	s.subscribe(t, "/") // and so the bot
	dbtest.AddWebhooks(t, s.pool, s.keyset, []string{"post.created"}, []dbtest.Webhook{{ID: id, BotID: "bot", URL: s.url + "/stuck"}})
	_, err = s.pool.Exec(t.Context(), "INSERT INTO events (id, type, payload, run_id) VALUES ('e1', 'post.created', '{}', 'r')")
	require.NoError(t, err)
	_, err = s.pool.Exec(t.Context(), "INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at) VALUES ($1, 'e1', 1, 1, 'event', now() - interval '1 minute')", id)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err := s.pool.Exec(t.Context(), "UPDATE queue_sweeps SET began_at = '-infinity'") // the next sweep begins at once
		return err == nil && s.count("/stuck", "e1") == 1
	}, 3*time.Minute, time.Second)
	var ended *temporal.TerminatedError
	require.ErrorAs(t, run.Get(t.Context(), nil), &ended)
}

// TestANoticeSaysWhatPostgresKnows: one that is started by hand is none.
func TestANoticeSaysWhatPostgresKnows(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	id := s.subscribe(t, "/")
	sealed, err := s.keyset.SealNotify("bot", "s3cret")
	require.NoError(t, err)
	url, err := s.keyset.SealNotifyURL("bot", s.url+"/owner")
	require.NoError(t, err)
	_, err = s.pool.Exec(t.Context(), "UPDATE bots SET notify_url = $1, notify_secret = $2", url, sealed)
	require.NoError(t, err)
	forged := map[string]any{"webhookId": id, "generation": 3, "botId": "bot", "host": "evil.example", "failureCount": 10, "lastError": "Click https://evil.example", "eventId": "e"}
	require.NoError(t, s.byHand(t, webhook.Notice{Kind: webhook.NoticeDisabled, WebhookID: id, Generation: 3}.NoticeID(), "NotifyDisabled", forged))
	require.Equal(t, delivery.NoticeGone, result[delivery.Result](t, s.client, webhook.Notice{Kind: webhook.NoticeDisabled, WebhookID: id, Generation: 3}.NoticeID()).Error)
	require.Empty(t, s.all())
}

// TestARemovalByHandKeepsWhatTheConfigurationKeeps: 30 days, whatever it is told.
func TestARemovalByHandKeepsWhatTheConfigurationKeeps(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	_, err := s.pool.Exec(t.Context(), "INSERT INTO events (id, type, payload, run_id, accepted_at) VALUES ('kept', 'post.created', '{}', 'r', now() - interval '10 days'), ('old', 'post.created', '{}', 'r', now() - interval '31 days')")
	require.NoError(t, err)
	for _, input := range []any{
		map[string]any{"retention": "4d"},
		map[string]any{"retention": "24h", "before": time.Now()},
		map[string]any{"retention": 5},
		map[string]any{"before": time.Now().Add(time.Hour), "after": map[string]any{"eventId": "a"}},
		map[string]any{"before": time.Now().AddDate(-100, 0, 0)},
	} {
		require.NoError(t, s.byHand(t, "", "RemoveExpired", input))
	}
	var left []string
	require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT array_agg(id) FROM events").Scan(&left))
	require.Equal(t, []string{"kept"}, left)
}

// TestASuspendedBotIsSentNothing: what waits is dropped when it is suspended, and what comes to be attempted all the same,
// by whatever way, is not sent.
func TestASuspendedBotIsSentNothing(t *testing.T) {
	t.Parallel()
	s := newStack(t, webhook.Schedule{time.Hour})
	id := s.subscribe(t, "/")
	s.emit(t, "before")
	require.Equal(t, 1, result[workflows.Summary](t, s.client, "event-before").Delivered)
	for _, statement := range []string{"UPDATE bots SET is_active = false", "UPDATE webhooks SET suspended = true"} {
		_, err := s.pool.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	s.emit(t, "meanwhile")
	require.Zero(t, result[workflows.Summary](t, s.client, "event-meanwhile").Webhooks)
	_, _, err := workflows.StartTest(t.Context(), s.client, s.attributes, s.target(id), "")
	require.ErrorIs(t, err, workflows.NotMadeError{Reason: delivery.BotSuspended})
	_, _, err = workflows.StartRedelivery(t.Context(), s.client, s.attributes, s.target(id), "before", 2)
	require.ErrorIs(t, err, workflows.NotMadeError{Reason: delivery.BotSuspended})
	for _, trigger := range []string{"event", "retry", "redeliver", "recover", "test"} {
		_, err := s.pool.Exec(t.Context(), "INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at) VALUES ($1, 'meanwhile', 1, 1, $2::text::delivery_trigger, now())", id, trigger)
		require.NoError(t, err)
		require.NoError(t, workflows.WakeQueue(t.Context(), s.client, s.attributes, s.target(id)))
		require.NoError(t, s.client.GetWorkflow(t.Context(), workflows.QueueWorkflowID(id), "").Get(t.Context(), nil))
	}
	require.Equal(t, []string{"/ before"}, s.all())
	var waiting int
	require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT count(*) FROM queue").Scan(&waiting))
	require.Zero(t, waiting)
	require.Equal(t, 1, s.count("/", "before"))
	described, err := s.client.DescribeWorkflowExecution(t.Context(), workflows.QueueWorkflowID(id), "")
	require.NoError(t, err)
	require.Equal(t, enums.WORKFLOW_EXECUTION_STATUS_COMPLETED, described.GetWorkflowExecutionInfo().GetStatus())
}

// TestAnEventsWorkflowSaysWhatItsEmitterGotWrong, who has no receipt.
func TestAnEventsWorkflowSaysWhatItsEmitterGotWrong(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	s.subscribe(t, "/")
	mention := func(id, body string, bots ...string) map[string]any {
		return map[string]any{"id": id, "event": "mention", "data": map[string]any{"body": body}, "botIds": bots}
	}
	require.NoError(t, s.byHand(t, "event-e1", "DeliverEvent", mention("e1", "a", "bot", "demo", "typo")))
	sum := result[workflows.Summary](t, s.client, "event-e1")
	require.Equal(t, []string{"demo", "typo"}, sum.UnknownBots)
	require.Contains(t, s.details(t, "event-e1"), "**No such bots**: `demo, typo`")
	require.NoError(t, s.byHand(t, "again", "DeliverEvents", []any{mention("e1", "b", "bot"), mention("e2", "c", "bot")}))
	sum = result[workflows.Summary](t, s.client, "again")
	require.Equal(t, []string{"e1"}, sum.Conflicts)
	require.Equal(t, []string{"e1"}, sum.Duplicates)
	require.NoError(t, s.byHand(t, "same", "DeliverEvents", []any{mention("e1", "a", "typo", "demo", "bot")}))
	require.Empty(t, result[workflows.Summary](t, s.client, "same").Conflicts)
}
