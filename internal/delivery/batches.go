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

// Batch is one of them, the Number-th, counted from 1, of Of.
type Batch struct {
	EventID    string
	EventType  webhook.EventType
	Summary    string
	Page       Page
	Number, Of int
}

// StartBatches starts the workflows of an event's batches. After an error some may have been started: calling again starts
// the others, and those that have ended since, which find nothing left to send.
func (d *Deliverer) StartBatches(ctx context.Context, in Batches) error {
	starts, ctx := errgroup.WithContext(ctx)
	starts.SetLimit(startsAtOnce)
	for i, page := range in.Pages {
		starts.Go(func() error {
			defer failpoint.Here("batch-started")
			b := Batch{in.EventID, in.EventType, in.Summary, page, i + 1, len(in.Pages)}
			if err := d.cfg.StartBatch(ctx, b); err != nil {
				return fmt.Errorf("start batch %d of %d of event %s: %w", b.Number, b.Of, b.EventID, err)
			}
			return nil
		})
	}
	return starts.Wait()
}
