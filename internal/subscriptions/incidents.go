package subscriptions

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/audit"
	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows"
)

const (
	// MaxIncidentErrors bounds the errors that an incident is narrowed to; its bots are bounded as an event's are.
	MaxIncidentErrors = 20
	// maxIncidentsListed is how many incidents one call lists.
	maxIncidentsListed = 50
	// maxNamed is how many unknown bots a refusal names.
	maxNamed = 20
)

// IncidentInput is which webhooks an incident is about, as an operator says it. A nil list is any errors, or all bots.
type IncidentInput struct {
	DisabledSince, DisabledUntil *time.Time // Until defaults to now
	Errors, BotIDs               []string
}

// Incident is a recovery of an incident, and how far it has come. Its row's id is uuid.Nil where it was only planned.
type Incident struct {
	db.Incident
	Plan     history.IncidentPlan
	Progress history.IncidentProgress
}

// IncidentPlanned is the state of an incident that is not begun.
const IncidentPlanned = "planned"

// incidentFilter checks an input. Faults of it may have been found before.
func (s *Service) incidentFilter(ctx context.Context, in IncidentInput, faults *problem.Faults) (f history.IncidentFilter, err error) {
	now := time.Now().UTC()
	f.Until = now
	if in.DisabledUntil != nil {
		f.Until = *in.DisabledUntil
	}
	switch {
	case faults.Any():
	case in.DisabledSince == nil:
		faults.Add("disabledSince", "is required")
	case in.DisabledSince.After(now):
		faults.Add("disabledSince", "must not be in the future")
	case f.Until.After(now):
		faults.Add("disabledUntil", "must not be in the future")
	case in.DisabledSince.After(f.Until):
		faults.Add("disabledSince", "must not be after disabledUntil, which defaults to now")
	}
	if in.DisabledSince != nil {
		f.Since = *in.DisabledSince
	}
	f.Errors = checkErrors(in.Errors, faults)
	if f.BotIDs, err = s.checkBots(ctx, in.BotIDs, faults); err != nil {
		return f, err
	}
	return f, faults.Err()
}

// checkErrors finds what no failure's error or class is.
func checkErrors(asked []string, faults *problem.Faults) []string {
	if asked == nil {
		return nil
	}
	if len(asked) == 0 || len(asked) > MaxIncidentErrors {
		faults.Add("errors", fmt.Sprintf("must have 1 to %d entries; leave it out for all", MaxIncidentErrors))
		return nil
	}
	for i, text := range asked {
		if !history.ValidError(text) || !slices.Contains(egress.Classes, text) && egress.ClassOf(text) == "" {
			faults.Add(fmt.Sprintf("errors[%d]", i), "must be a class ("+strings.Join(egress.Classes, ", ")+
				`) or an error as the history shows it, such as "timeout", "dns: no such host" or "HTTP 503"`)
		}
	}
	return distinct(asked)
}

// checkBots finds what is no bot's id.
func (s *Service) checkBots(ctx context.Context, asked []string, faults *problem.Faults) ([]string, error) {
	if asked == nil {
		return nil, nil
	}
	if len(asked) == 0 || len(asked) > webhook.MaxBotIDs {
		faults.Add("botIds", fmt.Sprintf("must have 1 to %d entries; leave it out for all", webhook.MaxBotIDs))
		return nil, nil
	}
	ids, unknown := make([]string, 0, len(asked)), []string{}
	for _, id := range asked {
		if webhook.ValidID(id) {
			ids = append(ids, webhook.CanonicalID(id))
		} else {
			unknown = append(unknown, id)
		}
	}
	missing, err := db.New().UnknownBots(ctx, s.Pool, ids)
	if err != nil {
		return nil, err
	}
	if unknown = distinct(append(unknown, missing...)); len(unknown) > 0 {
		faults.Add("botIds", "must be the ids of bots; unknown: "+named(unknown))
	}
	return distinct(ids), nil
}

// named lists texts that the caller may have made up, as far as a refusal has room.
func named(texts []string) string {
	short := make([]string, min(len(texts), maxNamed))
	for i := range short {
		short[i] = webhook.Shorten(texts[i])
	}
	list := strings.Join(short, ", ")
	if more := len(texts) - len(short); more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}

func distinct(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

// RecoverIncident begins to enable the webhooks that failures disabled in the span, and to recover what each missed; dryRun: it
// only counts them. Faults of the input may have been found before.
func (s *Service) RecoverIncident(ctx context.Context, in IncidentInput, dryRun bool, faults *problem.Faults) (Incident, error) {
	f, err := s.incidentFilter(ctx, in, faults)
	if err != nil {
		return Incident{}, err
	}
	plan, err := s.history().PlanIncident(ctx, f, s.Retention.Since(time.Now().UTC()))
	if err != nil {
		return Incident{}, err
	}
	if dryRun {
		return planned(ctx, f, plan), nil
	}
	row, err := s.queue().StartIncident(ctx, f, plan)
	if err != nil {
		return Incident{}, err
	}
	s.wakeIncident(ctx, row.ID)
	return s.incident(ctx, row)
}

func planned(ctx context.Context, f history.IncidentFilter, plan history.IncidentPlan) Incident {
	by := audit.By(ctx)
	row := db.Incident{
		DisabledSince: f.Since, DisabledUntil: f.Until, Errors: f.Errors, BotIds: f.BotIDs, State: IncidentPlanned,
		ActorKind: string(by.Kind), ActorID: by.ID, ActorName: by.Name, Client: by.Client, Request: by.Request,
	}
	return Incident{Incident: row, Plan: plan, Progress: history.IncidentProgress{State: IncidentPlanned, Found: plan.Webhooks}}
}

// wakeIncident has the workflow look at the incident. What Temporal does not take now, the next sweep does.
func (s *Service) wakeIncident(ctx context.Context, id uuid.UUID) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := workflows.WakeIncident(ctx, s.Temporal, id); err != nil {
		s.Logger.Warn("could not wake an incident's workflow; the next sweep does", "incident", id, "error", err)
	}
}

func (s *Service) incident(ctx context.Context, row db.Incident) (i Incident, err error) {
	i.Incident = row
	if err = json.Unmarshal(row.Plan, &i.Plan); err != nil {
		return i, fmt.Errorf("the plan of incident %s: %w", row.ID, err)
	}
	i.Progress, err = history.Progress(ctx, s.Pool, row)
	return i, err
}

// Incident reads an incident.
func (s *Service) Incident(ctx context.Context, id uuid.UUID) (Incident, error) {
	row, err := db.New().GetIncident(ctx, s.Pool, id)
	if err != nil {
		return Incident{}, problem.OrNotFound(err)
	}
	return s.incident(ctx, row)
}

// Incidents lists up to 50 incidents, newest first, from the one before `before` on, or from the newest, where that is uuid.Nil.
// more: there are older ones.
func (s *Service) Incidents(ctx context.Context, before uuid.UUID) (list []Incident, more bool, err error) {
	rows, err := db.New().ListIncidents(ctx, s.Pool, db.ListIncidentsParams{
		Before: uuid.NullUUID{UUID: before, Valid: before != uuid.Nil}, Most: maxIncidentsListed + 1,
	})
	if err != nil {
		return nil, false, err
	}
	if len(rows) > maxIncidentsListed {
		rows, more = rows[:maxIncidentsListed], true
	}
	list = make([]Incident, len(rows))
	for n, row := range rows {
		if list[n], err = s.incident(ctx, row); err != nil {
			return nil, false, err
		}
	}
	return list, more, nil
}

// SetIncidentState pauses an incident, resumes it ("running") or cancels it.
func (s *Service) SetIncidentState(ctx context.Context, id uuid.UUID, state string) (Incident, error) {
	row, err := s.queue().SetIncidentState(ctx, id, state)
	if err != nil {
		return Incident{}, problem.OrNotFound(err)
	}
	s.wakeIncident(ctx, id)
	return s.incident(ctx, row)
}
