package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/audit"
	"github.com/mathub/webhooks/internal/problem"
)

const (
	// incidentPage is how many webhooks one step of an incident enables. A step is made each second at most: a hundred thousand
	// are enabled within 35 minutes.
	incidentPage = 50
	// incidentRecoveries is how many recoveries of an incident are busy at once. Each looks through events, 2,000 a statement.
	// Those that only wait, as for a retry, are not counted: one event that a receiver never takes waits for hours.
	incidentRecoveries = 30
	// incidentRest is between two steps, and pausedRest between two steps of a paused incident whose recoveries run on.
	incidentRest = time.Second
	pausedRest   = 5 * time.Second
)

// The states of an incident.
const (
	IncidentRunning   = "running"
	IncidentPaused    = "paused"
	IncidentCompleted = "completed"
	IncidentCancelled = "cancelled"
)

// The states of an incident's webhook.
const (
	incidentFound      = "found"
	incidentEnabled    = "enabled"
	incidentRecovering = "recovering"
	incidentRecovered  = "recovered"
	incidentFailed     = "failed"
	incidentSkipped    = "skipped"
)

// StartIncident stores an incident with the webhooks that it is about. Its workflow has to be started; should that fail, the
// sweep starts it.
func (q *Queue) StartIncident(ctx context.Context, f IncidentFilter, plan IncidentPlan) (i db.Incident, err error) {
	text, err := json.Marshal(plan)
	if err != nil {
		return i, err
	}
	by, queries := audit.By(ctx), db.New()
	err = audit.Tx(ctx, q.Pool, q.Log, func(tx pgx.Tx, note func(audit.Change) error) error {
		i, err = queries.StartIncident(ctx, tx, db.StartIncidentParams{
			ID: uuid.Must(uuid.NewV7()), DisabledSince: f.Since, DisabledUntil: f.Until, Errors: orEmpty(f.Errors), BotIds: orEmpty(f.BotIDs), Plan: text,
			ActorKind: string(by.Kind), ActorID: by.ID, ActorName: by.Name, Client: by.Client, Request: by.Request,
		})
		if err != nil {
			return err
		}
		found, err := queries.AddIncidentWebhooks(ctx, tx, i.ID)
		if err != nil {
			return err
		}
		return note(audit.Change{Action: audit.IncidentStarted, Subject: i.ID.String(), After: audit.Fields{
			"disabledSince": f.Since, "disabledUntil": f.Until, "errors": i.Errors, "botIds": i.BotIds, "webhooks": found,
		}})
	})
	return i, err
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// SetIncidentState pauses, resumes or cancels an incident. Once it returns, a paused or cancelled one enables no webhook and
// begins no recovery. Its workflow has to be woken. One that has ended is a problem.Conflict, unless it is in the state already.
func (q *Queue) SetIncidentState(ctx context.Context, id uuid.UUID, state string) (i db.Incident, err error) {
	queries := db.New()
	err = audit.Tx(ctx, q.Pool, q.Log, func(tx pgx.Tx, note func(audit.Change) error) error {
		if i, err = queries.LockIncident(ctx, tx, id); err != nil || i.State == state {
			return err
		}
		if i.State == IncidentCompleted || i.State == IncidentCancelled {
			return &problem.Error{Kind: problem.Conflict, Detail: fmt.Sprintf("The incident is %s, which is final.", i.State)}
		}
		change := audit.Change{Action: incidentActions[state], Subject: id.String(), Before: audit.Fields{"state": i.State}, After: audit.Fields{"state": state}}
		if i, err = queries.SetIncidentState(ctx, tx, db.SetIncidentStateParams{State: state, ID: id}); err != nil {
			return err
		}
		return note(change)
	})
	return i, err
}

var incidentActions = map[string]audit.Action{
	IncidentPaused: audit.IncidentPaused, IncidentRunning: audit.IncidentResumed, IncidentCancelled: audit.IncidentCancelled,
}

// StartedBy is who started an incident: the service token, or an operator.
func StartedBy(i db.Incident) audit.Actor {
	return audit.Actor{Kind: audit.Kind(i.ActorKind), ID: i.ActorID, Name: i.ActorName, Client: i.Client, Request: i.Request}
}

// IncidentProgress is how far an incident has come, in webhooks: Found are all of them, Enabled those that it has enabled,
// whatever became of them since.
type IncidentProgress struct {
	State      string           `json:"state"`
	Found      int              `json:"found"`
	Enabled    int              `json:"enabled"`
	Skipped    int              `json:"skipped"`
	Recovering int              `json:"recovering"`
	Recovered  int              `json:"recovered"`
	Failed     int              `json:"failed"`
	Reasons    []IncidentReason `json:"reasons"`
}

// IncidentReason is why webhooks were skipped, or failed, the most frequent reason first.
type IncidentReason struct {
	State    string `json:"state"`
	Reason   string `json:"reason"`
	Webhooks int    `json:"webhooks"`
}

// Progress reads how far an incident has come. Of one that has ended, nothing is counted again.
func Progress(ctx context.Context, tx db.DBTX, i db.Incident) (IncidentProgress, error) {
	p := IncidentProgress{State: i.State, Reasons: []IncidentReason{}}
	if i.EndedAt != nil {
		err := json.Unmarshal(i.Outcome, &p)
		p.State = i.State
		return p, err
	}
	rows, err := db.New().CountIncident(ctx, tx, i.ID)
	for _, row := range rows {
		n := int(row.Webhooks)
		p.Found += n
		switch row.State {
		case incidentSkipped:
			p.Skipped += n
		case incidentRecovering:
			p.Recovering += n
		case incidentRecovered:
			p.Recovered += n
		case incidentFailed:
			p.Failed += n
		}
		if row.State != incidentFound && row.State != incidentSkipped {
			p.Enabled += n
		}
		if row.Reason != "" && len(p.Reasons) < maxIncidentErrors {
			p.Reasons = append(p.Reasons, IncidentReason{State: row.State, Reason: row.Reason, Webhooks: n})
		}
	}
	return p, err
}

// waiting is how many webhooks are yet to be recovered, or skipped.
func (p IncidentProgress) waiting() int { return p.Found - p.Skipped - p.Recovered - p.Failed }

// IncidentStep is what one step of an incident came to.
type IncidentStep struct {
	IncidentProgress
	// Ended: there is nothing more to do.
	Ended bool `json:"ended,omitempty"`
	// Wait is when to come again, at the soonest; 0, unless it has ended: when its state is changed.
	Wait time.Duration `json:"wait,omitempty"`
}

// IncidentOptions are what a worker is configured with that incidents need to know.
type IncidentOptions struct {
	// Kept is the time from which on events are kept.
	Kept time.Time
	// MustBeVerified: an endpoint that is not verified is sent nothing, and so not recovered.
	MustBeVerified bool
}

// RecoverIncident makes one step of an incident: it enables some webhooks, begins the recoveries of some that are enabled, and
// takes over how others have ended. The workflows of the recoveries begun have to be started. It may be repeated, and made by
// two at once: what has become of each webhook is committed with the change.
func (q *Queue) RecoverIncident(ctx context.Context, id uuid.UUID, o IncidentOptions) (step IncidentStep, begun []Webhook, err error) {
	queries := db.New()
	i, err := queries.GetIncident(ctx, q.Pool, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return IncidentStep{Ended: true}, nil, nil // its rows are not kept any more
	}
	if err != nil {
		return step, nil, fmt.Errorf("read incident %s: %w", id, err)
	}
	ctx = audit.As(ctx, StartedBy(i))
	r := incidentRun{Queue: q, id: id, options: o}
	switch i.State {
	case IncidentRunning:
		if err = r.enable(ctx); err == nil {
			begun, err = r.recover(ctx)
		}
	case IncidentCancelled:
		err = r.cancel(ctx)
	}
	if err == nil {
		step, err = r.conclude(ctx)
	}
	if err != nil {
		err = fmt.Errorf("recover incident %s: %w", id, err)
	}
	return step, begun, err
}

// conclude says how far the incident has come, and ends it when nothing is left to do.
func (r incidentRun) conclude(ctx context.Context) (step IncidentStep, err error) {
	queries := db.New()
	if err := queries.SettleIncident(ctx, r.Pool, r.id); err != nil {
		return step, err
	}
	i, err := queries.GetIncident(ctx, r.Pool, r.id)
	if err != nil {
		return step, err
	}
	if step.IncidentProgress, err = Progress(ctx, r.Pool, i); err != nil {
		return step, err
	}
	switch {
	case i.EndedAt != nil:
		step.Ended = true
		return step, nil
	case i.State == IncidentPaused && step.Recovering == 0:
		return step, nil
	case i.State == IncidentPaused:
		step.Wait = pausedRest
		return step, nil
	case i.State == IncidentRunning && step.waiting() > 0, i.State == IncidentCancelled && step.Recovering > 0:
		step.Wait = incidentRest
		return step, queries.TouchIncident(ctx, r.Pool, r.id)
	}
	return r.end(ctx, step)
}

// end ends an incident of which nothing is left to do.
func (r incidentRun) end(ctx context.Context, step IncidentStep) (IncidentStep, error) {
	outcome := step.IncidentProgress
	if outcome.State == IncidentRunning {
		outcome.State = IncidentCompleted
	}
	text, err := json.Marshal(outcome)
	if err != nil {
		return step, err
	}
	n, err := db.New().EndIncident(ctx, r.Pool, db.EndIncidentParams{ID: r.id, Outcome: text})
	if err != nil || n == 0 { // it was paused just now
		step.Wait = incidentRest
		return step, err
	}
	step.IncidentProgress, step.Ended = outcome, true
	return step, nil
}
