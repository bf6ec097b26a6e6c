package worker_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/mathub/webhooks/activities"
	"github.com/mathub/webhooks/internal/testutil/fuzzing"
	"github.com/mathub/webhooks/internal/testutil/fuzzworld"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows"
)

// private is an event that the World's bot is not of the audience of.
const private = "private"

// maxWorkflowID is how long an id Temporal's client and server take, in bytes. It has printable ASCII only.
const maxWorkflowID = 900

// fuzzTarget is JSON of the World's webhook.
const fuzzTarget = `{"webhookId":"` + fuzzworld.Hook + `","botId":"` + fuzzworld.Bot + `","host":"127.0.0.1"}`

// fuzzKinds are the workflows, each with inputs that it takes and the id that it wants, where NEW stands for another
// each time; "": any will do.
var fuzzKinds = map[string]struct {
	id     string
	inputs []string
}{
	"DeliverEvent":  {"", []string{`{"event":"post.created","data":{"postId":"p1"}}`, `{"id":"` + private + `","event":"mention","data":{},"botIds":["bot-lemma"]}`}},
	"DeliverEvents": {"", []string{`[{"event":"post.created","data":{}},{"id":"` + fuzzworld.Event + `","event":"post.created","data":{}}]`}},
	"DeliverBatch": {"", []string{
		`{"eventId":"` + fuzzworld.Event + `","eventType":"post.created","summary":"x","page":{"after":"00000000-0000-0000-0000-000000000000","upto":"ffffffff-ffff-ffff-ffff-ffffffffffff"}}`,
		`{"eventId":"` + private + `","eventType":"post.created","page":{"upto":"ffffffff-ffff-ffff-ffff-ffffffffffff"},"sum":{"webhooks":1}}`,
	}},
	"WebhookQueue":    {workflows.QueueWorkflowID(uuid.MustParse(fuzzworld.Hook)), []string{`{"target":` + fuzzTarget + `}`, `{"target":` + fuzzTarget + `,"window":32,"failed":true,"gaveUp":true}`}},
	"SendTest":        {"test-NEW", []string{`{"webhookId":"` + fuzzworld.Hook + `"}`, `{"webhookId":"` + fuzzworld.Hook + `","eventType":"post.created"}`}},
	"VerifyEndpoint":  {"verify-NEW", []string{`"` + fuzzworld.Hook + `"`}},
	"Redeliver":       {"redeliver-" + fuzzworld.Event + "-" + fuzzworld.Hook + "-2", []string{`{"eventId":"` + fuzzworld.Event + `","webhookId":"` + fuzzworld.Hook + `","number":2,"trigger":"redeliver"}`, `{"eventId":"` + private + `","webhookId":"` + fuzzworld.Hook + `","number":1}`}},
	"Recover":         {"recover-" + fuzzworld.Hook, []string{fuzzTarget}},
	"RecoverIncident": {workflows.IncidentWorkflowID(uuid.MustParse(fuzzworld.Incident)), []string{`{"incidentId":"` + fuzzworld.Incident + `"}`}},
	"NotifyDisabled":  {webhook.Notice{Kind: webhook.NoticeDisabled, WebhookID: uuid.MustParse(fuzzworld.Hook), Generation: 1}.NoticeID(), []string{`{"kind":"disabled","webhookId":"` + fuzzworld.Hook + `","generation":1,"botId":"bot-lemma"}`}},
	"SendTestNotice":  {"notice-test-NEW", []string{`"` + fuzzworld.Bot + `"`}},
	"RemoveExpired":   {"", []string{`{}`, `{"before":"2025-03-20T10:30:00Z","events":1,"deliveries":2}`}},
}

var fuzzNames = slices.Sorted(maps.Keys(fuzzKinds))

// fuzzStack is a stack on the rows of a World, and a private event.
type fuzzStack struct {
	*stack
	*fuzzworld.World
	corpus *fuzzing.Corpus // nil: none is kept
}

func newFuzzStack(t testing.TB) *fuzzStack {
	t.Helper()
	require.ElementsMatch(t, fuzzNames, slices.Collect(maps.Keys(workflows.Registered())))
	s := newStack(t, nil)
	f := &fuzzStack{s, fuzzworld.NewWorld(t, s.pool, s.keyset, s.url), nil}
	f.Restore(t, false)
	_, err := s.pool.Exec(t.Context(), `INSERT INTO events (id, type, payload, run_id, bot_ids) VALUES ($1, 'mention', '{"event":"mention","data":{}}', 'run', '{bot-euler-1}')`, private)
	require.NoError(t, err)
	return f
}

// run starts a workflow by hand, with an input that is changed by a Mutator of the seed unless that is 0. It must fail at once
// or end; one that waits for a time, as a queue does, waits without trying. Nobody gets what is not meant for them.
func (f *fuzzStack) run(t testing.TB, name string, seed uint64, id, input string) (outcome int) {
	t.Helper()
	of, known := fuzzKinds[name]
	if !known { // a mutated name
		name = fuzzNames[len(name)%len(fuzzNames)]
		of = fuzzKinds[name]
	}
	if input == "" {
		input = of.inputs[int(seed%uint64(len(of.inputs)))]
	}
	if seed >= uint64(len(of.inputs)) {
		m := fuzzing.NewMutator(seed, []string{"eventId", "webhookId", "number", "trigger", "target", "botId", "host", "window", "page", "after", "upto", "sum", "done", "events", "id", "event", "data", "botIds", "timestamp", "kind", "generation", "incidentId"},
			[]string{private, fuzzworld.Event, fuzzworld.Hook, fuzzworld.Bot, "bot-euler-1", fuzzworld.Incident, "mention", "post.created", "redeliver", "recover"})
		input = m.JSON(input)
		defer func() { f.corpus.Offer(t, name, uint64(0), "", input) }()
	}
	if id == "" {
		id = strings.ReplaceAll(of.id, "NEW", uuid.NewString())
	}
	if id == "" || seed%5 == 4 || len(id) > maxWorkflowID || strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r > '~' }) {
		id = "by-hand-" + uuid.NewString()
	}
	said := fmt.Sprintf("%s as %q, seed %d, of %.2000s", name, id, seed, input)
	payload := &commonpb.Payload{Metadata: map[string][]byte{converter.MetadataEncoding: []byte(converter.MetadataEncodingJSON)}, Data: []byte(input)}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	run, err := f.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: id, TaskQueue: workflows.TaskQueue, WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: time.Hour}, // so that a failure that is not for good is none
	}, name, converter.NewRawValue(payload))
	require.NoError(t, err, said)
	outcome = f.ended(t, ctx, run, said)
	f.mu.Lock()
	defer f.mu.Unlock()
	for what := range f.received {
		require.False(t, strings.HasPrefix(what, "/hook") && strings.HasSuffix(what, " "+private), "%s: sent to a bot outside of its audience", said)
	}
	return outcome
}

// What became of a workflow.
const (
	fuzzCompleted = 1 + iota
	fuzzRefused
	fuzzWaits
	fuzzReplaced
)

func (f *fuzzStack) ended(t testing.TB, ctx context.Context, run client.WorkflowRun, said string) int {
	t.Helper()
	done, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	err := run.GetWithOptions(done, nil, client.WorkflowRunGetOptions{DisableFollowingRuns: true})
	var fault *temporal.ApplicationError
	var ended *temporal.TerminatedError
	switch {
	case err == nil:
		return fuzzCompleted
	case errors.As(err, &fault):
		require.True(t, fault.NonRetryable(), "%s: %v", said, err)
		require.Contains(t, []string{activities.InvalidInput, workflows.InvalidEventError}, fault.Type(), "%s: %v", said, err)
		return fuzzRefused
	case errors.As(err, &ended):
		return fuzzReplaced // by another input with this id
	case done.Err() == nil:
		require.Contains(t, err.Error(), "continue as new", "%s: %v", said, err)
	}
	// It waits for something: no step of it is tried time and again.
	for {
		described, err := f.client.DescribeWorkflowExecution(ctx, run.GetID(), "")
		require.NoError(t, err, said)
		if described.GetWorkflowExecutionInfo().GetStatus() != enums.WORKFLOW_EXECUTION_STATUS_RUNNING {
			return fuzzCompleted
		}
		require.Less(t, described.GetPendingWorkflowTask().GetAttempt(), int32(3), "%s: its code fails", said)
		for _, a := range described.GetPendingActivities() {
			require.Less(t, a.GetAttempt(), int32(3), "%s: %s is tried time and again: %v", said, a.GetActivityType().GetName(), a.GetLastFailure())
		}
		if described.GetPendingWorkflowTask() == nil && len(described.GetPendingActivities()) == 0 {
			_ = f.client.TerminateWorkflow(ctx, run.GetID(), "", "seen")
			return fuzzWaits
		}
		require.NoError(t, ctx.Err(), said)
		time.Sleep(50 * time.Millisecond) // between looks
	}
}

// FuzzWorkflows starts the workflows with any input.
func FuzzWorkflows(f *testing.F) {
	s := newFuzzStack(f)
	for _, name := range fuzzNames {
		for i, input := range fuzzKinds[name].inputs {
			f.Add(name, uint64(i), "", "")
			f.Add(name, uint64(10+i), "", input)
		}
	}
	f.Fuzz(func(t *testing.T, name string, seed uint64, id, input string) { s.run(t, name, seed, id, input) })
}

// TestNumberedInputs is FuzzWorkflows' long form: see fuzzing.Numbered. The workers share a stack, as workflows mostly wait.
func TestNumberedInputs(t *testing.T) {
	t.Parallel()
	s := newFuzzStack(t)
	s.corpus = fuzzing.KeepCorpus("FuzzWorkflows")
	fuzzing.Numbered(t, 200, func(*testing.T) func(n uint64) int {
		return func(n uint64) int {
			kinds := uint64(len(fuzzNames))
			seed := n / kinds // the first are as the workflows take them
			if seed > 1 {
				seed = n
			}
			return s.run(t, fuzzNames[n%kinds], seed, "", "")
		}
	})
	var rows int
	require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT count(*) FROM deliveries WHERE event_id = $1 AND webhook_id = $2", private, fuzzworld.Hook).Scan(&rows))
	require.Zero(t, rows)
}
