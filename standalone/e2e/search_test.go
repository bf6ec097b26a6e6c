package e2e_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/standalone/testkit"
	"github.com/mathub/webhooks/webhook"
)

// TestEventsAreFoundByTheirType in Temporal's list, by whichever way they are emitted. The examples' events are looked for
// where those are run.
func TestEventsAreFoundByTheirType(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{})
	bot := stack.API().CreateBot(t, "searched")
	tm := openTerminal(t, stack, bot)
	awaitSearchable(t, stack)
	of := func(id string) webhook.Event {
		return webhook.Event{ID: id, Type: webhook.WikiEdited, Data: []byte("{}"), BotIDs: []string{bot.ID}}
	}

	stack.API().Emit(t, testkit.Event{ID: "by-api", Type: "wiki.edited", BotIDs: []string{bot.ID}})
	stack.API().EmitBatch(t, []testkit.Event{{ID: "by-batch-1", Type: "wiki.edited"}, {ID: "by-batch-2", Type: "wiki.edited"}})
	_, stderr, code := tm.feed(t, `{"id":"by-command","event":"wiki.edited","data":{}}`, "emit", "-")
	require.Zero(t, code, stderr)
	_, err := emit.Event(t.Context(), stack.Temporal(t), of("by-go"))
	require.NoError(t, err)
	_, err = emit.Events(t.Context(), stack.Temporal(t), []webhook.Event{of("by-go-1"), of("by-go-2")})
	require.NoError(t, err)
	relayed(t, stack, tm, "by-relay")
	foundByType(t, stack, "wiki.edited", "by-api", "by-batch-1", "by-batch-2", "by-command", "by-go", "by-go-1", "by-go-2", "by-relay")
}

// relayed writes an event into an outbox, and runs a relay until it is marked.
func relayed(t *testing.T, stack *testkit.Stack, tm *terminal, id string) {
	t.Helper()
	_, err := stack.Database(t).Exec(t.Context(), "CREATE DATABASE backend")
	require.NoError(t, err)
	url := stack.Servers.DatabaseURL("backend")
	backend, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer backend.Close(context.Background()) //nolint:errcheck // the test is over
	_, err = backend.Exec(t.Context(), stack.Run(t, "relay", "--print-schema"))
	require.NoError(t, err)
	_, err = backend.Exec(t.Context(), "INSERT INTO mathub_outbox (id, event, data) VALUES ($1, 'wiki.edited', '{}')", id)
	require.NoError(t, err)
	(&terminal{env: append(tm.env, "MATHUB_OUTBOX_URL="+url)}).relay(t)
	require.Eventually(t, func() bool { return workflowOf(t, stack, id) != "" }, 3*time.Minute, 50*time.Millisecond, "it is relayed")
}

// awaitSearchable waits until the product has registered the search attributes.
func awaitSearchable(t *testing.T, stack *testkit.Stack) {
	t.Helper()
	bot := stack.API().CreateBot(t, "probing")
	require.Eventually(t, func() bool {
		id := bot.Emit(t, testkit.Event{Type: "wiki.edited"}).ID
		for range 10 {
			if isFoundByType(t, stack, "wiki.edited", emit.WorkflowID(id)) {
				return true
			}
			time.Sleep(200 * time.Millisecond) // the lists lag behind
		}
		return false
	}, 3*time.Minute, time.Millisecond)
}

// foundByType waits until the list of Temporal finds the workflow of each event by a type.
func foundByType(t *testing.T, stack *testkit.Stack, eventType string, eventIDs ...string) {
	t.Helper()
	for _, id := range eventIDs {
		require.Eventually(t, func() bool {
			workflow := workflowOf(t, stack, id)
			return workflow != "" && isFoundByType(t, stack, eventType, workflow)
		}, 3*time.Minute, 50*time.Millisecond, "event %s is not found by its type", id)
	}
}

func isFoundByType(t *testing.T, stack *testkit.Stack, eventType, workflowID string) bool {
	t.Helper()
	found, err := stack.Temporal(t).ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{
		Query: fmt.Sprintf(`MathubEventType = %q AND WorkflowId = %q`, eventType, workflowID),
	})
	return err == nil && len(found.GetExecutions()) > 0 // before they are registered it is an error
}

// workflowOf is the workflow that accepted an event; empty while none has.
func workflowOf(t *testing.T, stack *testkit.Stack, eventID string) (id string) {
	t.Helper()
	_ = stack.Database(t).QueryRow(t.Context(), "SELECT coalesce(workflow_id, 'event-' || id) FROM events WHERE id = $1", eventID).Scan(&id)
	return id
}
