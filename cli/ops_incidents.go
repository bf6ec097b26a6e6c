package cli

import (
	"context"
	"fmt"

	mathub "github.com/mathub/webhooks/clients/go"
)

// opsIncidents undoes what an incident of ours did, over the service API.
type opsIncidents struct {
	Plan    opsIncidentsPlan    `cmd:"" help:"Count the webhooks that an incident disabled, and what they missed. Changes nothing."`
	Recover opsIncidentsRecover `cmd:"" help:"Enable the webhooks that an incident disabled, and deliver what they missed."`
	List    opsIncidentsList    `cmd:"" help:"List the incidents that are or were recovered, newest first."`
	Get     opsIncidentsGet     `cmd:"" help:"Show an incident and its progress."`
	Pause   opsIncidentsPause   `cmd:"" help:"Pause: enable no further webhook and begin no further recovery."`
	Resume  opsIncidentsResume  `cmd:"" help:"Resume a paused incident."`
	Cancel  opsIncidentsCancel  `cmd:"" help:"Cancel for good, with the recoveries that run. What was enabled stays enabled."`
}

// incidentFlags say which webhooks an incident is about.
type incidentFlags struct {
	ServiceFlags
	outputFlags
	Since moment   `required:"" help:"Start of the span in which webhooks were disabled: a time in RFC 3339, or how long ago, such as 2h."`
	Until moment   `help:"End of the span. Default: now."`
	Error []string `sep:"none" help:"Only those that this error disabled, as the history shows it, or a class of errors. May be repeated."`
	Bot   []string `sep:"none" help:"Only those of this bot, by its id. May be repeated."`
}

func (f incidentFlags) request(dryRun bool) mathub.NewIncident {
	return mathub.NewIncident{DisabledSince: f.Since.UTC(), DisabledUntil: f.Until.UTC(), Errors: f.Error, BotIDs: f.Bot, DryRun: dryRun}
}

// plan shows what it would come to.
func (f incidentFlags) plan(ctx context.Context) error {
	api, err := f.client()
	if err != nil {
		return err
	}
	planned, err := api.RecoverIncident(ctx, f.request(true))
	if err != nil {
		return err
	}
	return f.incidentPlan(planned.Body, planned.Value.Plan)
}

type opsIncidentsPlan struct{ incidentFlags }

// Run shows the plan.
func (c *opsIncidentsPlan) Run(ctx context.Context) error { return c.plan(ctx) }

// waitFlag has a command wait for an incident's end.
type waitFlag struct {
	Wait bool `help:"Wait for the end, with the progress on stderr. Fails unless all that was enabled is recovered."`
}

type opsIncidentsRecover struct {
	incidentFlags
	waitFlag
	DryRun bool `help:"Only count, as plan does."`
}

// Run begins the recovery.
func (c *opsIncidentsRecover) Run(ctx context.Context) error {
	if c.DryRun {
		return c.plan(ctx)
	}
	api, err := c.client()
	if err != nil {
		return err
	}
	begun, err := api.RecoverIncident(ctx, c.request(false))
	if err != nil {
		return err
	}
	return c.follow(ctx, api, c.outputFlags, begun)
}

// follow shows an incident: with --wait, once it has ended.
func (w waitFlag) follow(ctx context.Context, api *mathub.Service, f outputFlags, i *mathub.Response[mathub.Incident]) (err error) {
	if w.Wait {
		id := *i.Value.ID
		i, err = await(ctx, i, func(i mathub.Incident) bool { return i.EndedAt != nil }, incidentProgress,
			func(ctx context.Context) (*mathub.Response[mathub.Incident], error) { return api.GetIncident(ctx, id) })
		if err != nil && ctx.Err() != nil {
			return fmt.Errorf("the incident goes on; see mathub-webhooks ops incidents get %s: %w", id, ctx.Err())
		}
		if err != nil {
			return err
		}
	}
	if err := f.incident(i.Body, i.Value); err != nil {
		return err
	}
	if w.Wait && (i.Value.State != "completed" || i.Value.Failed > 0) {
		return errFailed
	}
	return nil
}

type opsIncidentsList struct {
	ServiceFlags
	outputFlags
	Before string `help:"List the incidents before the one with this id, which the previous page printed."`
}

// Run lists a page of incidents.
func (c *opsIncidentsList) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	list, err := api.ListIncidents(ctx, &mathub.ListIncidentsParams{Before: c.Before})
	if err != nil {
		return err
	}
	return c.incidents(list.Body, list.Value, list.Next() != "")
}

// opsIncident is one that a command is about.
type opsIncident struct {
	ServiceFlags
	outputFlags
	ID string `arg:"" name:"incident" help:"The incident's id."`
}

// set changes the incident's state and shows it.
func (c *opsIncident) set(ctx context.Context, state string) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	changed, err := api.UpdateIncident(ctx, c.ID, mathub.IncidentChange{State: state})
	if err != nil {
		return err
	}
	return c.incident(changed.Body, changed.Value)
}

type opsIncidentsGet struct {
	opsIncident
	waitFlag
}

// Run shows the incident.
func (c *opsIncidentsGet) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	found, err := api.GetIncident(ctx, c.ID)
	if err != nil {
		return err
	}
	return c.follow(ctx, api, c.outputFlags, found)
}

type opsIncidentsPause struct{ opsIncident }

// Run pauses the incident.
func (c *opsIncidentsPause) Run(ctx context.Context) error { return c.set(ctx, "paused") }

type opsIncidentsResume struct{ opsIncident }

// Run resumes the incident.
func (c *opsIncidentsResume) Run(ctx context.Context) error { return c.set(ctx, "running") }

type opsIncidentsCancel struct{ opsIncident }

// Run cancels the incident.
func (c *opsIncidentsCancel) Run(ctx context.Context) error { return c.set(ctx, "cancelled") }
