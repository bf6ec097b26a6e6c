package faults_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/standalone/testkit"
)

const (
	recoveryMissed = 50
	// recoveryBegins is how soon after the call the first of what was missed arrives.
	recoveryBegins = 5 * time.Second
	// recoveryAnswers is how soon its progress is told: in the mean of 20 calls one after the other, as a busy machine may
	// hold up a single one.
	recoveryAnswers = 100 * time.Millisecond
)

// TestARecoveryAmongManyDelivered recovers a few missed events among a great many that were delivered: it begins at once
// and tells how far it has come at any time, however much there is to look through.
func TestARecoveryAmongManyDelivered(t *testing.T) {
	share(t)
	stack := testkit.Start(t, testkit.Options{Env: map[string]string{"MATHUB_HISTORY_ROWS": "0"}}) // a budget would drop what is to be looked at
	events := either(20_000, 5_000_000)
	p := newPatient(t, stack, "recovered")
	began := time.Now()
	insertDelivered(t, stack, p.hook, events)
	t.Logf("%d delivered events inserted within %v", events, time.Since(began).Round(time.Millisecond))

	t.Run("missed throughout", func(t *testing.T) {
		if !soak {
			t.Skip("make soak runs it")
		}
		forget(t, stack, events/recoveryMissed)
		recovers(t, stack, p, recoveryMissed)
	})
	t.Run("missed at the end", func(t *testing.T) {
		p.bot.SetActive(t, p.hook.ID, false)
		for n := range recoveryMissed {
			missed := stack.API().Emit(t, testkit.Event{ID: fmt.Sprintf("missed-%d", n), Type: post, BotIDs: []string{p.bot.ID}})
			require.NoError(t, stack.Temporal(t).GetWorkflow(t.Context(), missed.WorkflowID, "").Get(t.Context(), nil))
		}
		p.bot.SetActive(t, p.hook.ID, true)
		recovers(t, stack, p, recoveryMissed)
	})
}

// recovers runs a recovery, which finds so many events, and measures it.
func recovers(t *testing.T, stack *testkit.Stack, p *patient, missed int) {
	t.Helper()
	before := p.receiver.Count()
	asked := time.Now()
	p.bot.Recover(t, p.hook.ID, &mathub.Span{Since: time.Now().Add(-2 * time.Hour)})
	answered := time.Since(asked)
	polling, stop := context.WithCancel(t.Context())
	defer stop()
	polls := poll(polling, t, stack, p)
	requests := p.receiver.AwaitWithin(t, p.path, before+1, time.Minute)
	begins := requests[before].At.Sub(asked)
	ended := p.bot.AwaitRecovery(t, p.hook.ID)
	took := time.Since(asked)
	stop()
	answers := <-polls
	slowest := answers.slowest()
	t.Logf("%d missed: POST answered after %v, the first arrived after %v, completed after %v: %+v; %d GETs, %d failed, the longest took %v, 20 in a row %v each",
		missed, answered.Round(time.Millisecond), begins.Round(time.Millisecond), took.Round(time.Millisecond), ended,
		len(answers.took), answers.failed, slices.Max(answers.took).Round(time.Millisecond), slowest.Round(time.Millisecond))
	require.Equal(t, []any{"completed", missed, missed, 0}, []any{ended.State, ended.Found, ended.Delivered, ended.Failed})
	require.Equal(t, before+missed, p.receiver.Count(), "what was missed, and nothing twice")
	require.Less(t, begins, slack*recoveryBegins)
	require.Zero(t, answers.failed)
	if soak {
		require.Less(t, slowest, slack*recoveryAnswers)
	}
}

// polled are the times that answers took, in their order.
type polled struct {
	took   []time.Duration
	failed int
}

// poll asks how far the recovery has come, again and again until ctx ends.
func poll(ctx context.Context, t *testing.T, stack *testkit.Stack, p *patient) <-chan polled {
	t.Helper()
	done := make(chan polled, 1)
	go func() {
		var all polled
		for ; ctx.Err() == nil; time.Sleep(10 * time.Millisecond) { // the rate of the polls
			began := time.Now()
			answer, err := stack.API().Do(context.WithoutCancel(ctx), http.MethodGet, "/api/bot/v1/webhooks/"+p.hook.ID+"/recover", p.bot.Key, nil)
			all.took = append(all.took, time.Since(began))
			if err != nil || answer.Status != http.StatusOK || !json.Valid(answer.Body) {
				all.failed++
				t.Logf("GET …/recover: status %d, %v: %s", answer.Status, err, answer.Body)
			}
		}
		done <- all
	}()
	return done
}

// slowest is the mean of the answers in the slowest run of 20, or of all if they are fewer.
func (p polled) slowest() (slowest time.Duration) {
	n := min(20, len(p.took))
	for i := range len(p.took) - n + 1 {
		var sum time.Duration
		for _, d := range p.took[i : i+n] {
			sum += d
		}
		slowest = max(slowest, sum/time.Duration(n))
	}
	return slowest
}
