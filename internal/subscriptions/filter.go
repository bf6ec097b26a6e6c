package subscriptions

import (
	"bytes"
	"context"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
)

func typesOf(names []string) []webhook.EventType {
	types := make([]webhook.EventType, len(names))
	for i, name := range names {
		types[i] = webhook.EventType(name)
	}
	return types
}

// FilterOf is a webhook's filter; empty: it gets every event of its types.
func FilterOf(w db.Webhook) webhook.Filter {
	filter, err := webhook.StoredFilter(w.Filter)
	if err != nil { // made by a later release
		return nil
	}
	return filter
}

// changeFilter adds to a change what becomes of the webhook's filter. A filter that stays has to fit other event types.
func changeFilter(change *db.UpdateWebhookParams, w db.Webhook, in Input) error {
	if !in.SetFilter && in.Events == nil {
		return nil
	}
	events, filter := w.Events, FilterOf(w)
	if in.Events != nil {
		events = in.Events
	}
	if in.SetFilter {
		filter = in.Filter
	}
	checked, err := filter.Check(typesOf(events))
	if err != nil || !in.SetFilter {
		return err
	}
	change.Filter = checked.JSON()
	change.SetFilter = !bytes.Equal(change.Filter, FilterOf(w).JSON())
	return nil
}

// Preview counts the last 100 events of some types that concern a bot, and those of them that a filter would let pass.
func (s *Service) Preview(ctx context.Context, botID string, events []string, filter webhook.Filter) (p history.Preview, err error) {
	var faults problem.Faults
	types, err := webhook.CheckSubscription(events)
	faults.Check(err)
	if err == nil {
		filter, err = filter.Check(types)
		faults.Check(err)
	}
	if err := faults.Err(); err != nil {
		return p, err
	}
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = string(t)
	}
	return s.history().Preview(ctx, botID, names, filter)
}
