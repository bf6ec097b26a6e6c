package cli

import (
	"fmt"
	"io"
	"strings"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/webhook"
)

// incidentPlan shows what an incident is about.
func (f outputFlags) incidentPlan(raw []byte, p mathub.IncidentPlan) error {
	return f.show(raw, func(w io.Writer) error {
		fmt.Fprintf(w, "WEBHOOKS\tBOTS\tHOSTS\tMISSED EVENTS\n%d\t%d\t%d\t%s\n", p.Webhooks, p.Bots, p.Hosts, missedText(p.Missed)) //nolint:errcheck // Flush tells
		if len(p.Errors) > 0 {
			fmt.Fprintln(w, "\nWEBHOOKS\tCLASS\tERROR") //nolint:errcheck // Flush tells
		}
		for _, e := range p.Errors {
			fmt.Fprintf(w, "%d\t%s\t%s\n", e.Webhooks, e.Class, orDash(e.Error)) //nolint:errcheck // Flush tells
		}
		if p.MoreErrors {
			fmt.Fprintln(w, "and others") //nolint:errcheck // Flush tells
		}
		return nil
	})
}

// missedText says how many events were missed, and how well that is known.
func missedText(m mathub.IncidentMissed) string {
	text := fmt.Sprint(m.Events)
	if m.AtLeast {
		text = "at least " + text
	}
	if m.Estimated {
		text += fmt.Sprintf(" (estimated from %d webhooks)", m.Sample)
	}
	return text
}

// incidentProgress is an incident's progress in a line.
func incidentProgress(i mathub.Incident) string {
	return fmt.Sprintf("%s: %d of %d webhooks enabled, %d skipped; %d recovering, %d recovered, %d failed", i.State, i.Enabled, i.Found, i.Skipped, i.Recovering, i.Recovered, i.Failed)
}

// incident shows an incident, a line for each thing, and why webhooks were skipped or failed.
func (f outputFlags) incident(raw []byte, i mathub.Incident) error {
	page := "unknown: the API runs without MATHUB_TEMPORAL_UI"
	if i.Workflow.URL != nil {
		page = *i.Workflow.URL
	}
	return f.show(raw, func(w io.Writer) error {
		for _, line := range [][2]string{
			{"Incident", orDash(i.ID)},
			{"State", i.State},
			{"Disabled", "from " + webhook.FormatTime(i.DisabledSince) + " to " + webhook.FormatTime(i.DisabledUntil)},
			{"Errors", allOr(i.Errors)},
			{"Bots", allOr(i.BotIDs)},
			{"Missed events", missedText(i.Plan.Missed)},
			{"Webhooks", fmt.Sprintf("%d: %d enabled, %d skipped", i.Found, i.Enabled, i.Skipped)},
			{"Recoveries", fmt.Sprintf("%d running, %d completed, %d failed", i.Recovering, i.Recovered, i.Failed)},
			{"Started", orNone(i.StartedAt) + " by " + actor(i.StartedBy)},
			{"Ended", orNone(i.EndedAt)},
			{"Workflow", orDash(i.Workflow.ID)},
			{"Web UI", page},
		} {
			fmt.Fprintf(w, "%s\t%s\n", line[0], line[1]) //nolint:errcheck // Flush tells
		}
		if len(i.Reasons) > 0 {
			fmt.Fprintln(w, "\nWEBHOOKS\tBECAME\tREASON") //nolint:errcheck // Flush tells
		}
		for _, r := range i.Reasons {
			fmt.Fprintf(w, "%d\t%s\t%s\n", r.Webhooks, r.State, r.Reason) //nolint:errcheck // Flush tells
		}
		return nil
	})
}

func (f outputFlags) incidents(raw []byte, list []mathub.Incident, more bool) error {
	return f.show(raw, func(w io.Writer) error {
		fmt.Fprintln(w, "INCIDENT\tSTATE\tSTARTED\tWEBHOOKS\tENABLED\tSKIPPED\tRECOVERING\tRECOVERED\tFAILED") //nolint:errcheck // Flush tells
		for _, i := range list {
			//nolint:errcheck // Flush tells
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\n", orDash(i.ID), i.State, orNone(i.StartedAt), i.Found, i.Enabled, i.Skipped, i.Recovering, i.Recovered, i.Failed)
		}
		if more {
			fmt.Fprintf(w, "\nOlder incidents follow: --before=%s\n", orDash(list[len(list)-1].ID)) //nolint:errcheck // Flush tells
		}
		return nil
	})
}

// allOr lists what an incident is narrowed to; none: all.
func allOr(list []string) string {
	if len(list) == 0 {
		return "all"
	}
	return strings.Join(list, ", ")
}
