package delivery

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/mathub/webhooks/internal/failpoint"
	"github.com/mathub/webhooks/webhook"
)

// startsAtOnce is how many workflows of one event's batches are being started at once.
const startsAtOnce = 8

// Batches are the pages of an event's audience, each for a workflow of its own.
type Batches struct {
	EventID   string
	EventType webhook.EventType
	Summary   string
	Pages     []Page
}

// StartBatches starts the workflows of an event's batches. After an error some may have been started: calling again starts
// the others, and those that have ended since, which find nothing left to send.
func (d *Deliverer) StartBatches(ctx context.Context, in Batches) error {
	starts, ctx := errgroup.WithContext(ctx)
	starts.SetLimit(startsAtOnce)
	for n := range in.Pages {
		starts.Go(func() error {
			defer failpoint.Here("batch-started")
			if err := d.cfg.StartBatch(ctx, in, n); err != nil {
				return fmt.Errorf("start batch %d of %d of event %s: %w", n+1, len(in.Pages), in.EventID, err)
			}
			return nil
		})
	}
	return starts.Wait()
}
