package telemetry

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/testutil"
)

// TestLinesOfAKindAreLimited: what a stranger causes a thousand times fills no disk, hides no other line, and is counted.
func TestLinesOfAKindAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out testutil.Buffer
		log := slog.New(LimitLines(WithTraceIDs(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))))
		flood := func(n int) {
			for i := range n {
				log.With("client", i).WithGroup("g").Info("wrong key", "n", i)
				if i%10 == 0 {
					log.Debug("detail")
				}
			}
		}
		count := func(text string) int { return strings.Count(out.String(), text) }
		flood(10_000)
		log.Warn("wrong key") // another statement's
		require.Equal(t, linesAtOnce+1, count("wrong key"))
		require.Equal(t, 1000, count("detail"), "who asks for everything gets it")

		time.Sleep(leftOutAfter)
		synctest.Wait()
		require.Equal(t, 1, count(`level=INFO msg="lines were left out of the log" kind="wrong key" lines=9800`), out.String())
		out.Take()
		time.Sleep(time.Minute)
		require.Empty(t, out.String(), "it is said once")
		flood(201)
		time.Sleep(leftOutAfter)
		synctest.Wait()
		require.Equal(t, 1, count("lines=1\n"))
	})
}
