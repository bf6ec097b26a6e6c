package history

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mathub/webhooks/db"
)

const (
	// maxIncidentErrors is how many of the errors that disabled an incident's webhooks are listed.
	maxIncidentErrors = 20
	// missedSample is of how many webhooks the missed events are counted; of more, the others are taken to have missed as many.
	missedSample = 10
	// missedLooked is how many events are looked at for each, after it was disabled and before.
	missedLooked = 1000
)

// IncidentFilter says which webhooks an incident is about: those that failures disabled between Since and Until, both
// included, by one of the errors, of one of the bots; none: by any, of all.
type IncidentFilter struct {
	Since, Until time.Time
	// Errors are errors as the history shows them, or classes of errors: see egress.Classes.
	Errors []string
	BotIDs []string
}

// IncidentPlan is what a recovery of an incident would come to, counted before it is begun.
type IncidentPlan struct {
	Webhooks int `json:"webhooks"`
	Bots     int `json:"bots"`
	Hosts    int `json:"hosts"`
	// Errors disabled them, the most frequent first. MoreErrors: there are others.
	Errors     []IncidentError `json:"errors"`
	MoreErrors bool            `json:"moreErrors"`
	Missed     IncidentMissed  `json:"missed"`
}

// IncidentError is an error that disabled webhooks. Error is empty where the delivery is not kept any more.
type IncidentError struct {
	Class    string `json:"class"`
	Error    string `json:"error"`
	Webhooks int    `json:"webhooks"`
}

// IncidentMissed is how many events the webhooks missed, an event counted once for each.
type IncidentMissed struct {
	Events int `json:"events"`
	// Estimated: they were counted for Sample of the webhooks only. AtLeast: there may be more, as not all events were looked at.
	Estimated bool `json:"estimated"`
	AtLeast   bool `json:"atLeast"`
	Sample    int  `json:"sample"`
}

// PlanIncident counts what a recovery of an incident would come to. kept is the time from which on events are kept.
func (r *Reader) PlanIncident(ctx context.Context, f IncidentFilter, kept time.Time) (IncidentPlan, error) {
	plan := IncidentPlan{Errors: []IncidentError{}}
	rows, err := db.New().PlanIncident(ctx, r.Pool, db.PlanIncidentParams{
		Sample: missedSample, Most: maxIncidentErrors, DisabledSince: &f.Since, DisabledUntil: &f.Until, Errors: orEmpty(f.Errors), BotIds: orEmpty(f.BotIDs),
	})
	if err != nil || len(rows) == 0 {
		return plan, err
	}
	for _, row := range rows {
		plan.Errors = append(plan.Errors, IncidentError{Class: row.Class, Error: row.Error, Webhooks: int(row.Webhooks)})
	}
	first := rows[0]
	plan.Webhooks, plan.Bots, plan.Hosts, plan.MoreErrors = int(first.AllWebhooks), int(first.Bots), int(first.Hosts), int(first.Kinds) > len(rows)
	plan.Missed, err = r.missedOf(ctx, first.Sample, plan.Webhooks, kept)
	return plan, err
}

// missedOf counts what the sampled webhooks missed, and concludes what all did.
func (r *Reader) missedOf(ctx context.Context, sample []uuid.UUID, all int, kept time.Time) (m IncidentMissed, err error) {
	events := 0
	for _, id := range sample {
		n, more, err := r.missedBy(ctx, id, kept)
		if err != nil {
			return m, err
		}
		events += n
		m.Sample++
		m.AtLeast = m.AtLeast || more
	}
	m.Estimated = m.Sample < all
	m.Events = int(float64(events) / float64(max(m.Sample, 1)) * float64(all))
	return m, nil
}

// missedBy counts what one webhook missed: first since it was disabled, as most of it was missed then, and what came before. It
// counts as its recovery would.
func (r *Reader) missedBy(ctx context.Context, id uuid.UUID, kept time.Time) (n int, more bool, err error) {
	w, err := db.New().WebhookOfAny(ctx, r.Pool, id)
	if err != nil || w.DisabledAt == nil {
		if errors.Is(err, pgx.ErrNoRows) { // deleted meanwhile
			err = nil
		}
		return 0, false, err
	}
	span, _, err := RecoverySpan(ctx, r.Pool, w, kept)
	if err != nil {
		return 0, false, err
	}
	for _, part := range [][2]time.Time{{*w.DisabledAt, span.Until}, {span.Since, w.DisabledAt.Add(-time.Microsecond)}} {
		if span.Since, span.Until = part[0], part[1]; span.Until.Before(span.Since) {
			continue
		}
		found, err := r.missed(ctx, span, 0, missedLooked)
		if err != nil {
			return 0, false, err
		}
		n, more = n+found.Count, more || found.More
	}
	return n, more, nil
}
