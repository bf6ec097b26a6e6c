package faults_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/standalone/testkit"
)

// TestAnEventsWorkflowIsEnded ends the workflow of an event before its work is done, as an operator or a timeout can, at
// several moments. Emitting the event again, under its id, or recovering what its webhook missed, delivers what was left
// undone, and nothing else.
func TestAnEventsWorkflowIsEnded(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{Servers: durable, Apps: apart(), Env: map[string]string{"MATHUB_RETRY_SCHEDULE": "3s,3s,3s"}})
	worker := stack.Apps[1]

	t.Run("before the event is stored", func(t *testing.T) {
		e := newInterrupted(t, stack, "not-stored")
		worker.Stop(t)
		e.emit(t)
		e.terminate(t)
		require.False(t, stored(t, stack, e.id))
		worker.Start(t)
		e.emit(t)
		e.settle(t, 1)
	})
	t.Run("before the event is stored, by a timeout", func(t *testing.T) {
		e := newInterrupted(t, stack, "not-stored-timeout")
		worker.Stop(t)
		e.start(t, time.Second)
		e.awaitStatus(t, enums.WORKFLOW_EXECUTION_STATUS_TIMED_OUT)
		require.False(t, stored(t, stack, e.id))
		worker.Start(t)
		e.emit(t)
		e.settle(t, 1)
	})
	for _, c := range []struct {
		id    string
		name  string
		begin func(e *endedWorkflow, t *testing.T)
		end   func(e *endedWorkflow, t *testing.T)
		again func(e *endedWorkflow, t *testing.T)
	}{
		{"emitted-again", "after it is stored, and emitted again", (*endedWorkflow).emit, (*endedWorkflow).terminate, (*endedWorkflow).emit},
		{"recovered", "after it is stored, and recovered", (*endedWorkflow).emit, (*endedWorkflow).terminate, (*endedWorkflow).recover},
		{"timed-out", "after it is stored, by a timeout", func(e *endedWorkflow, t *testing.T) { e.start(t, 12*time.Second) }, func(e *endedWorkflow, t *testing.T) {
			e.awaitStatus(t, enums.WORKFLOW_EXECUTION_STATUS_TIMED_OUT)
		}, (*endedWorkflow).emit},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newInterrupted(t, stack, c.id)
			e.hang()
			c.begin(e, t)
			e.partly(t)
			worker.Kill()
			c.end(e, t)
			e.heal()
			worker.Start(t)
			c.again(e, t)
			e.settle(t, 2) // the POST that hung when the worker died was seen, but is not known of
		})
	}
	t.Run("while a worker waits for the answer", func(t *testing.T) {
		e := newInterrupted(t, stack, "under-way")
		e.hang()
		e.emit(t)
		e.slow().receiver.Await(t, e.slow().path, 1)
		e.terminate(t)
		// The attempt in flight is brought to its end, and fails.
		require.True(t, until(slack*time.Minute, func() bool { failed, _ := attempts(t, stack, e.slow().hook.ID); return failed > 0 }), "the attempt is not recorded")
		e.heal()
		e.emit(t)
		e.settle(t, 2)
	})
	survived(t, stack)
}

// endedWorkflow is an event to three webhooks, of which the last is slow to answer.
type endedWorkflow struct {
	stack    *testkit.Stack
	id       string
	patients []*patient
	bots     []string
	again    chan struct{} // closed when the slow one is well
}

func newInterrupted(t *testing.T, stack *testkit.Stack, name string) *endedWorkflow {
	t.Helper()
	e := &endedWorkflow{stack: stack, id: name, again: make(chan struct{})}
	for i := range 3 {
		p := newPatient(t, stack, fmt.Sprintf("%s-%d", name, i))
		e.patients, e.bots = append(e.patients, p), append(e.bots, p.bot.ID)
	}
	return e
}

func (e *endedWorkflow) slow() *patient { return e.patients[2] }

func (e *endedWorkflow) hang() {
	e.slow().receiver.Answer(e.slow().path, e.slow().receiver.Until(e.again, testkit.Status(http.StatusServiceUnavailable)))
}

func (e *endedWorkflow) heal() {
	e.slow().receiver.Answer(e.slow().path, e.slow().take)
	close(e.again)
}

func (e *endedWorkflow) event() testkit.Event {
	return testkit.Event{ID: e.id, Type: post, BotIDs: e.bots}
}

func (e *endedWorkflow) emit(t *testing.T) {
	t.Helper()
	receipt := e.stack.API().Emit(t, e.event())
	t.Logf("emitted %s: %+v", e.id, receipt)
}

// start emits as a backend does with a Temporal client, with a limit on the workflow's run time.
func (e *endedWorkflow) start(t *testing.T, limit time.Duration) {
	t.Helper()
	_, err := e.stack.Temporal(t).ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{
		ID: emit.WorkflowID(e.id), TaskQueue: emit.TaskQueue, WorkflowExecutionTimeout: limit,
	}, emit.WorkflowType, map[string]any{"id": e.id, "event": post, "data": map[string]any{}, "botIds": e.bots})
	require.NoError(t, err)
}

// partly waits until all but the slow one's delivery are recorded, and that one is in progress.
func (e *endedWorkflow) partly(t *testing.T) {
	t.Helper()
	e.slow().receiver.Await(t, e.slow().path, 1)
	require.True(t, until(slack*time.Minute, func() bool { return recorded(t, e.stack, e.id) >= 2 }), "%d of 2 deliveries are recorded", recorded(t, e.stack, e.id))
}

func (e *endedWorkflow) terminate(t *testing.T) {
	t.Helper()
	require.NoError(t, e.stack.Temporal(t).TerminateWorkflow(t.Context(), emit.WorkflowID(e.id), "", "an operator's mistake"))
	e.awaitStatus(t, enums.WORKFLOW_EXECUTION_STATUS_TERMINATED)
}

func (e *endedWorkflow) awaitStatus(t *testing.T, status enums.WorkflowExecutionStatus) {
	t.Helper()
	require.True(t, until(slack*time.Minute, func() bool {
		w, err := e.stack.Temporal(t).DescribeWorkflowExecution(context.WithoutCancel(t.Context()), emit.WorkflowID(e.id), "")
		return err == nil && w.GetWorkflowExecutionInfo().GetStatus() == status
	}), "the workflow does not become %v", status)
	t.Logf("the workflow of %s: %v", e.id, status)
}

// recover recovers what the slow one missed.
func (e *endedWorkflow) recover(t *testing.T) {
	t.Helper()
	missed := 1
	if failed, _ := attempts(t, e.stack, e.slow().hook.ID); failed > 0 { // the attempt ended before the worker did: a retry is planned
		missed = 0
	}
	e.slow().bot.Recover(t, e.slow().hook.ID, nil)
	recovery := e.slow().bot.AwaitRecovery(t, e.slow().hook.ID)
	require.Equal(t, "completed", recovery.State)
	require.Equal(t, missed, recovery.Found)
}

// settle waits until each webhook has taken the event, and checks that none got it again: of the slow one, which may have
// had a POST without an answer, so many POSTs are due at most.
func (e *endedWorkflow) settle(t *testing.T, mostToSlow int) {
	t.Helper()
	for _, p := range e.patients {
		p.arrives(t, e.id)
	}
	finished(t, e.stack, time.Minute)
	for i, p := range e.patients {
		failed, taken := attempts(t, e.stack, p.hook.ID)
		t.Logf("webhook %d: %d POSTs, %d failures and %d successes recorded", i, p.receiver.Count(), failed, taken)
		require.Equal(t, 1, taken)
		require.Equal(t, 1, p.well()[e.id], "taken once")
		if p == e.slow() {
			require.LessOrEqual(t, p.receiver.Count(), mostToSlow)
		} else {
			require.Equal(t, 1, p.receiver.Count())
		}
	}
}
