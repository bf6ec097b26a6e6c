package history

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWebhookHealth_After(t *testing.T) {
	t.Parallel()
	failing := func(count, early int32) webhookHealth {
		return webhookHealth{Active: true, Queued: true, FailureCount: count, EarlyFailures: early, Generation: 3, FailureRun: 2, FailureClass: "timeout"}
	}
	failure := func(generation, run int32) Attempt {
		return Attempt{Generation: generation, FailureRun: run, Class: "timeout"}
	}
	disabled := failing(10, 5)
	disabled.Active = false
	for name, c := range map[string]struct {
		before webhookHealth
		a      Attempt
		held   bool
		want   webhookHealth
	}{
		"FirstFailureBeginsARun":     {webhookHealth{Active: true, Generation: 3, FailureRun: 1}, failure(3, 0), false, failing(1, 1)},
		"KnownToFailCounts":          {failing(5, 5), failure(3, 2), false, failing(6, 5)},
		"EarlyCounts":                {failing(4, 4), failure(3, 0), false, failing(5, 5)},
		"SixthEarlyDoesNot":          {failing(5, 5), failure(3, 0), false, failing(5, 5)},
		"EarlyOfAnotherRun":          {failing(7, 3), failure(3, 1), false, failing(8, 4)},
		"BeforeTheEnablingDoesNot":   {failing(9, 5), failure(2, 2), false, failing(9, 5)},
		"TenthDisables":              {failing(9, 5), failure(3, 2), false, disabled},
		"TenthIsHeldByAFuse":         {failing(9, 5), failure(3, 2), true, failing(10, 5)},
		"SuccessEndsTheRun":          {failing(9, 5), Attempt{Success: true, Generation: 3}, false, failing(0, 0)},
		"OldSuccessEndsTheRun":       {failing(9, 5), Attempt{Success: true}, false, failing(0, 0)},
		"SuccessEnablesNothing":      {disabled, Attempt{Success: true, Generation: 3}, false, func() webhookHealth { h := disabled; h.FailureCount, h.EarlyFailures = 0, 0; return h }()},
		"SuccessOfAHealthyChangesNo": {webhookHealth{Active: true}, Attempt{Success: true}, false, webhookHealth{Active: true}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, c.before.after(c.a, c.held)) })
	}
}

func TestWebhookHealth_Pause(t *testing.T) {
	t.Parallel()
	for count, want := range []time.Duration{0: 0, 1: shortPause, 4: shortPause, 5: longPause, 9: longPause, 10: heldPause, 30: heldPause} {
		if want == 0 && count > 0 {
			continue
		}
		require.Equal(t, want, webhookHealth{Active: true, FailureCount: int32(count)}.pause(), count)
		require.Zero(t, webhookHealth{FailureCount: int32(count)}.pause())
	}
	// What a burst that fails together leaves a receiver, before the tenth failure.
	require.GreaterOrEqual(t, 5*longPause, 15*time.Second)
}
