package delivery

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mathub/webhooks/internal/failpoint"
	"github.com/mathub/webhooks/webhook"
)

const (
	// startsAtOnce is how many workflows of batches a process starts at once, so that an emit's start does not wait behind those
	// of a thousand events.
	startsAtOnce = 8
	// startsTime is how long one call goes on with them, well within its activity's time.
	startsTime = 30 * time.Second
)

// Batches are the pages of an event's audience, each for a workflow of its own.
type Batches struct {
	EventID   string
	EventType webhook.EventType
	Summary   string
	Pages     []Page
	// Started is how many of Pages, the first of them, have been started.
	Started int
}

// StartBatches goes on with starting the workflows of an event's batches, and returns how many have been started. An error
// means that none has. Calling again may start a few that have ended since, which find nothing left to send.
func (d *Deliverer) StartBatches(ctx context.Context, in Batches) (started int, err error) {
	if in.Started < 0 || in.Started > len(in.Pages) {
		return 0, webhook.Invalid("started", "must be a number of pages")
	}
	ctx, cancel := context.WithTimeout(ctx, startsTime)
	defer cancel()
	starts, ctx := errgroup.WithContext(ctx)
	starts.SetLimit(startsAtOnce)
	isStarted := make([]bool, len(in.Pages)+1)
	for n := in.Started; n < len(in.Pages) && ctx.Err() == nil; n++ {
		starts.Go(func() error {
			defer failpoint.Here("batch-started")
			if err := d.startBatch(ctx, in, n); err != nil {
				return fmt.Errorf("start batch %d of %d of event %s: %w", n+1, len(in.Pages), in.EventID, err)
			}
			isStarted[n] = true
			return nil
		})
	}
	err = starts.Wait()
	for started = in.Started; isStarted[started]; started++ {
	}
	if err != nil {
		d.reporter.limited(ctx, slog.LevelWarn, "could not start all workflows of a large audience yet; retrying", "event", in.EventID, "started", started, "of", len(in.Pages), "error", err)
	}
	if started > in.Started { // what has been started is not to be started again
		return started, nil
	}
	return started, err
}

// startBatch starts a batch in its turn.
func (d *Deliverer) startBatch(ctx context.Context, in Batches, n int) error {
	select {
	case d.starts <- struct{}{}:
		defer func() { <-d.starts }()
		return d.cfg.StartBatch(ctx, in, n)
	case <-ctx.Done():
		return ctx.Err()
	}
}
