package temporal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/api/serviceerror"
)

const (
	// watchEvery is the pause between two checks of a healthy server.
	watchEvery = 2 * time.Second
	// patience is how long a server may not work, while its database does, before it is given up.
	patience = 10 * time.Second
	// checkTimeout bounds one check, so that two fit into patience.
	checkTimeout = 5 * time.Second
)

// Watch watches a working server at addr until ctx ends, or until the server has not worked for 10 s although its
// database did: it then returns what is wrong with it, for people. database returns nil when the database works.
func Watch(ctx context.Context, addr string, database func(context.Context) error) (reason string) {
	probe, err := NewProbe(addr)
	if err != nil {
		return err.Error()
	}
	defer probe.Close()
	var failing time.Time // since when; zero while all is well
	for {
		began := time.Now()
		err := check(ctx, probe, database)
		pause := watchEvery / 4
		switch {
		case ctx.Err() != nil:
			return ""
		case err == nil:
			failing, pause = time.Time{}, watchEvery
		case failing.IsZero():
			failing = began
		case time.Since(failing) > patience:
			return fmt.Sprintf("it has not worked for %.0f s: %v", time.Since(failing).Seconds(), err)
		}
		select {
		case <-ctx.Done():
			return ""
		case <-time.After(pause):
		}
	}
}

func check(ctx context.Context, probe *Probe, database func(context.Context) error) error {
	attempt, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	err := probe.Check(attempt)
	var busy *serviceerror.ResourceExhausted
	if err == nil || errors.As(err, &busy) {
		return nil // one that says that it has too much to do, works
	}
	if database(ctx) != nil {
		return nil // without one, no server is to blame
	}
	return err
}
