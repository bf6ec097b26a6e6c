package ops

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/db"
)

// placed is a webhook's place in an order that no index has.
type placed struct {
	position
	webhook *db.Webhook // nil: it is not read yet, or gone
}

// inOrderOfPlaces sorts webhooks by their places.
func inOrderOfPlaces(all []placed) []placed {
	slices.SortFunc(all, func(a, b placed) int { return a.compare(b.position) })
	return all
}

// byFailures are the places of those that are wanted and fail, most failures first. A webhook that fails is queued.
func (s *Service) byFailures(ctx context.Context, f *WebhookFilter) ([]placed, error) {
	rows, err := db.New().QueuedWebhooks(ctx, s.Pool, mostRead)
	if err != nil {
		return nil, err
	}
	var all []placed
	for _, row := range rows {
		if f.wants(&db.Webhook{
			ID: row.ID, BotID: row.BotID, Origin: row.Origin, IsActive: true, Queued: true, Suspended: row.Suspended,
			FailureCount: row.FailureCount, FailureClass: row.FailureClass,
		}) {
			all = append(all, placed{position: position{-int64(row.FailureCount), row.ID}})
		}
	}
	return inOrderOfPlaces(all), nil
}

// byQueue are the places of those that are wanted and have something in their queue.
func (s *Service) byQueue(ctx context.Context, f *WebhookFilter) ([]placed, error) {
	rows, err := s.allQueues.read(ctx, s.Pool, s.KeepQueues)
	if err != nil {
		return nil, fmt.Errorf("read the queues: %w", err)
	}
	wanted, err := s.wanted(ctx, f, rows)
	if err != nil {
		return nil, err
	}
	all := make([]placed, 0, len(rows))
	for _, row := range rows {
		if wanted != nil && !wanted[row.webhookID] {
			continue
		}
		at := position{-row.waiting, row.webhookID}
		if f.Sort == ByOldest {
			at.key = math.MaxInt64 // what was made due at once is not late
			if due := dueAt(row.oldestDueAt); due != nil {
				at.key = due.UnixMicro()
			}
		}
		all = append(all, placed{position: at})
	}
	return inOrderOfPlaces(all), nil
}

// wanted are the webhooks of queues that a filter asks for; nil: it asks for all.
func (s *Service) wanted(ctx context.Context, f *WebhookFilter, queues []queueRead) (map[uuid.UUID]bool, error) {
	if f.State+f.DisabledReason+f.BotID+f.Host+f.ErrorClass == "" {
		return nil, nil //nolint:nilnil // see above
	}
	ids := make([]uuid.UUID, len(queues))
	for i, q := range queues {
		ids[i] = q.webhookID
	}
	rows, err := db.New().WebhookFilters(ctx, s.Pool, ids)
	wanted := make(map[uuid.UUID]bool, len(rows))
	for _, row := range rows {
		wanted[row.ID] = f.wants(&db.Webhook{
			ID: row.ID, BotID: row.BotID, Origin: row.Origin, IsActive: row.IsActive, Queued: row.Queued, Suspended: row.Suspended,
			FailureCount: row.FailureCount, FailureClass: row.FailureClass, DisabledReason: row.DisabledReason,
		})
	}
	return wanted, err
}

// inPlace lists webhooks whose places are in order, from f.After on.
func (s *Service) inPlace(ctx context.Context, f *WebhookFilter, all []placed) (rows []db.Webhook, next string, err error) {
	found, last, err := scan(f.Limit, func(after *placed, most int32) ([]placed, error) {
		at := f.after
		if after != nil {
			at = after.position
		} else if f.After == "" {
			at = position{key: math.MinInt64}
		}
		rest, _ := slices.BinarySearchFunc(all, at, func(w placed, p position) int { return cmp.Or(w.compare(p), -1) })
		return s.withWebhook(ctx, all[rest:min(rest+int(most), len(all))])
	}, func(w *placed) bool { return w.webhook != nil && f.wants(w.webhook) })
	if last != nil {
		next = last.String()
	}
	for _, w := range found {
		rows = append(rows, *w.webhook)
	}
	return rows, next, err
}

// withWebhook reads the webhooks of some places.
func (s *Service) withWebhook(ctx context.Context, some []placed) ([]placed, error) {
	ids := make([]uuid.UUID, len(some))
	for i, w := range some {
		ids[i] = w.id
	}
	rows, err := db.New().WebhooksByID(ctx, s.Pool, ids)
	of := make(map[uuid.UUID]*db.Webhook, len(rows))
	for i := range rows {
		of[rows[i].ID] = &rows[i]
	}
	for i := range some {
		some[i].webhook = of[some[i].id]
	}
	return some, err
}
