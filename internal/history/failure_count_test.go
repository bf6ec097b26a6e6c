package history

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

// TestHealth_Pause: what was under way fails now or late, five failures of known attempts outlast a restart of 12 s, and ten
// that fail at once disable within 20 s.
func TestHealth_Pause(t *testing.T) {
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
