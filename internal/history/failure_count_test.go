package history

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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

func TestHealth_Rest(t *testing.T) {
	t.Parallel()
	var sum time.Duration
	for known, want := range firstRests {
		for early := int32(1); early <= maxEarlyFailures; early++ {
			require.Equal(t, want, Health{Active: true, FailureCount: early + int32(known), EarlyFailures: early}.Rest(), "%d early, %d known", early, known)
		}
		sum += want
	}
	require.Equal(t, laterRest, Health{Active: true, FailureCount: 6, EarlyFailures: 1}.Rest())
	require.Equal(t, heldRest, Health{Active: true, FailureCount: 10, EarlyFailures: 5}.Rest(), "a fuse holds it")
	require.Zero(t, Health{Active: true}.Rest())
	require.Zero(t, Health{FailureCount: 10}.Rest(), "it is disabled")
	// A receiver may be away for 12 s, and ten failing events are to disable it within 20 s.
	require.Greater(t, sum, 12*time.Second)
	require.Less(t, sum+4*laterRest, 18*time.Second)
}
