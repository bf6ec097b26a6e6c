package mathub

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWaitAfter_ARetryAfterIsBounded(t *testing.T) {
	t.Parallel()
	for asked, want := range map[time.Duration]time.Duration{20 * time.Second: 20 * time.Second, time.Hour: time.Minute} {
		require.Equal(t, want, waitAfter(&Problem{Status: 503, RetryAfter: asked}, firstPause))
	}
}
