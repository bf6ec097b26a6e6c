// Package sleep is the one way to wait for a time.
package sleep

import (
	"context"
	"time"
)

// For waits for d, or until ctx ends. It returns whether d passed: false when ctx ended first.
func For(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
