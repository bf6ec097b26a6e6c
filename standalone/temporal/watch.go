package temporal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/api/serviceerror"
)

const (
	watchEvery = 2 * time.Second // between two checks of a healthy server
	patience   = 10 * time.Second
)

// Watchdog finds out that a server does not work any more.
type Watchdog struct {
	Addr string
	// Database returns nil when the server's database works: without one, no server is to blame.
	Database func(context.Context) error
	// Patience is how long a server may not work; 10 s when 0. One check may take half of it.
	Patience time.Duration
}

// Watch watches a working server until ctx ends, or until the server has not worked for as long as patience goes
// although its database did: it then returns what is wrong with it, for people.
func (w Watchdog) Watch(ctx context.Context) (reason string) {
	if w.Patience == 0 {
		w.Patience = patience
	}
	probe, err := NewProbe(w.Addr)
	if err != nil {
		return err.Error()
	}
	defer probe.Close()
	var failing time.Time // since when; zero while all is well
	for {
		began := time.Now()
		err := w.check(ctx, probe)
		pause := watchEvery / 4
		switch {
		case ctx.Err() != nil:
			return ""
		case err == nil:
			failing, pause = time.Time{}, watchEvery
		case failing.IsZero():
			failing = began
		case time.Since(failing) > w.Patience:
			return fmt.Sprintf("it has not worked for %.0f s: %v", time.Since(failing).Seconds(), err)
		}
		select {
		case <-ctx.Done():
			return ""
		case <-time.After(pause):
		}
	}
}

func (w Watchdog) check(ctx context.Context, probe *Probe) error {
	attempt, cancel := context.WithTimeout(ctx, w.Patience/2)
	defer cancel()
	err := probe.Check(attempt)
	var busy *serviceerror.ResourceExhausted
	if err == nil || errors.As(err, &busy) {
		return nil // one that says that it has too much to do, works
	}
	if w.Database(ctx) != nil {
		return nil // without one, no server is to blame
	}
	return err
}
