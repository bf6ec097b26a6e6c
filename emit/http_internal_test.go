package emit

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What a proxy before the service asks for may be hours: it may answer again at once.
func TestWaitAfter_ARetryAfterIsBounded(t *testing.T) {
	t.Parallel()
	for asked, want := range map[time.Duration]time.Duration{20 * time.Second: 20 * time.Second, 10 * time.Hour: time.Minute} {
		require.Equal(t, want, waitAfter(&RefusedError{Status: 503, RetryAfter: asked}, firstPause))
	}
}
