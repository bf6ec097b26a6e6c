package history

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

func TestHealth_After(t *testing.T) {
	t.Parallel()
	failing := func(count, early int32) Health {
		return Health{Active: true, Queued: true, FailureCount: count, EarlyFailures: early, Generation: 3, FailureRun: 2, FailureClass: "timeout"}
	}
	failure := func(generation, run int32) Attempt {
		return Attempt{Generation: generation, FailureRun: run, Class: "timeout"}
	}
	disabled := failing(10, 5)
	disabled.Active = false
	for name, c := range map[string]struct {
		before Health
		a      Attempt
		held   bool
		want   Health
	}{
		"FirstFailureBeginsARun":     {Health{Active: true, Generation: 3, FailureRun: 1}, failure(3, 0), false, failing(1, 1)},
		"KnownToFailCounts":          {failing(5, 5), failure(3, 2), false, failing(6, 5)},
		"EarlyCounts":                {failing(4, 4), failure(3, 0), false, failing(5, 5)},
		"SixthEarlyDoesNot":          {failing(5, 5), failure(3, 0), false, failing(5, 5)},
		"EarlyOfAnotherRun":          {failing(7, 3), failure(3, 1), false, failing(8, 4)},
		"BeforeTheEnablingDoesNot":   {failing(9, 5), failure(2, 2), false, failing(9, 5)},
		"TenthDisables":              {failing(9, 5), failure(3, 2), false, disabled},
		"TenthIsHeldByAFuse":         {failing(9, 5), failure(3, 2), true, failing(10, 5)},
		"SuccessEndsTheRun":          {failing(9, 5), Attempt{Success: true, Generation: 3}, false, failing(0, 0)},
		"OldSuccessEndsTheRun":       {failing(9, 5), Attempt{Success: true}, false, failing(0, 0)},
		"SuccessEnablesNothing":      {disabled, Attempt{Success: true, Generation: 3}, false, func() Health { h := disabled; h.FailureCount, h.EarlyFailures = 0, 0; return h }()},
		"SuccessOfAHealthyChangesNo": {Health{Active: true}, Attempt{Success: true}, false, Health{Active: true}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, c.before.After(c.a, c.held)) })
	}
}

// TestHealth_Pause: what was under way fails now or late, five failures of known attempts outlast a restart of 12 s, and ten
// that fail at once disable within 20 s.
func TestHealth_Pause(t *testing.T) {
	t.Parallel()
	failure := Attempt{Number: 1}
	for _, late := range []int{0, 1, 4, 40} { // so many fail after the third known attempt
		h := Health{Active: true}.After(failure, false)
		var paused []time.Duration
		for known := 0; h.Active; known++ {
			paused = append(paused, h.Pause())
			h = h.After(Attempt{FailureRun: h.FailureRun}, false)
			for range late {
				if known == 2 {
					h = h.After(failure, false)
				}
			}
		}
		var first, all time.Duration
		for i, p := range paused {
			if all += p; i < 5 {
				first += p
			}
		}
		require.GreaterOrEqual(t, len(paused), 5, "%d late", late)
		require.Greater(t, first, 12*time.Second, "%d late", late)
		require.Less(t, all, 18*time.Second, "%d late", late)
		require.EqualValues(t, webhook.MaxFailures, h.FailureCount)
		require.Zero(t, h.Pause(), "it is disabled")
	}
	held := Health{Active: true, FailureCount: webhook.MaxFailures}
	require.Equal(t, heldPause, held.Pause())
}
