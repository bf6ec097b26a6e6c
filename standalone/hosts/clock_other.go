//go:build !linux || !amd64

package hosts

import (
	"errors"
	"time"
)

// SetClock is only for Linux on amd64.
func (h *Host) SetClock(time.Duration) error {
	return errors.New("only on Linux on amd64 can a host have a clock of its own")
}
