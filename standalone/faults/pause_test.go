package faults_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

// TestAStoppedWorkerBlamesNoReceiver stops the worker's process for longer than an attempt may take, again and again, while
// it delivers to receivers that answer while it is stopped and in 100 ms: as a paused machine, swapping or a throttled container does.
// Whatever answer it finds too late is held against nobody, and every event arrives.
func TestAStoppedWorkerBlamesNoReceiver(t *testing.T) {
	t.Parallel()
	const stoppedFor, eventsATime = 6 * time.Second, 8
	stops := either(1, 20)
	stack := testkit.Start(t, testkit.Options{Apps: apart()})
	worker := stack.Apps[1]
	slow, quick := newPatient(t, stack, "stopped-slow"), newPatient(t, stack, "stopped-quick")
	quick.receiver.Answer(quick.path, quick.receiver.Slow(100*time.Millisecond, quick.take))

	var ids []string
	for round := range stops {
		before, stopped := slow.receiver.Count(), make(chan struct{})
		slow.receiver.Answer(slow.path, slow.receiver.Until(stopped, slow.take))
		for n := range eventsATime {
			ids = append(ids, fmt.Sprintf("stopped-%d-%d", round, n))
			stack.API().Emit(t, testkit.Event{ID: ids[len(ids)-1], Type: post, BotIDs: []string{slow.bot.ID, quick.bot.ID}})
		}
		slow.receiver.Await(t, slow.path, before+1)
		require.NoError(t, worker.Pause())
		close(stopped)
		time.Sleep(stoppedFor) // the length of the stop
		require.NoError(t, worker.Resume())
	}
	for _, p := range []*patient{slow, quick} {
		all := reaches(slack*time.Minute, len(ids), func() int { return len(p.well()) })
		require.True(t, all, "%s has taken %d of %d events", p.path, len(p.well()), len(ids))
	}
	finished(t, stack, time.Minute) // the last is recorded after it was taken
	for _, p := range []*patient{slow, quick} {
		failed, taken := attempts(t, stack, p.hook.ID)
		t.Logf("%s: %d events, %d POSTs, %d failures", p.path, len(ids), p.receiver.Count(), failed)
		require.Zero(t, failed, p.path)
		require.Equal(t, len(ids), taken, p.path)
		for _, hook := range p.bot.Webhooks(t) {
			require.True(t, hook.IsActive)
			require.Zero(t, hook.FailureCount)
		}
	}
	survived(t, stack)
}
