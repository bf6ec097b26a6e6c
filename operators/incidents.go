package operators

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/internal/audit"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/pages"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/internal/subscriptions"
	"github.com/mathub/webhooks/internal/web"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows"
)

func (s *site) incidentsRoutes() {
	s.get("/ops/incidents", s.listIncidents)
	s.post("/ops/incidents", s.startIncident)
	s.get("/ops/incidents/plan", s.planIncident)
	s.get("/ops/incidents/{id}", s.oneIncident)
	s.post("/ops/incidents/{id}/pause", s.setIncident(history.IncidentPaused))
	s.post("/ops/incidents/{id}/resume", s.setIncident(history.IncidentRunning))
	s.get("/ops/incidents/{id}/cancel", s.cancelIncidentForm)
	s.post("/ops/incidents/{id}/cancel", s.setIncident(history.IncidentCancelled))
}

// planPath leads to what undoing an incident comes to.
func planPath(of url.Values) string { return Root + "/incidents/plan?" + of.Encode() }

func incidentPath(id uuid.UUID) string { return Root + "/incidents/" + id.String() }

// incidentView is an incident as a page shows it.
type incidentView struct {
	subscriptions.Incident
	By  string
	URL *string // of its workflow, in Temporal's Web UI
}

func (s *site) viewOf(i subscriptions.Incident) incidentView {
	view := incidentView{Incident: i, By: who(history.StartedBy(i.Incident))}
	if i.ID != uuid.Nil {
		view.URL = s.Ops.UI.Workflow(workflows.IncidentWorkflowID(i.ID), "")
	}
	return view
}

// Badge is its state.
func (v incidentView) Badge() badge {
	switch v.State {
	case history.IncidentRunning:
		return badge{"info", "Running"}
	case history.IncidentPaused:
		return badge{"wait", "Paused"}
	case history.IncidentCancelled:
		return badge{"off", "Cancelled"}
	case subscriptions.IncidentPlanned:
		return badge{"off", "Planned"}
	}
	return badge{"ok", "Completed"}
}

// Runs and IsPaused say which actions it has.
func (v incidentView) Runs() bool     { return v.State == history.IncidentRunning }
func (v incidentView) IsPaused() bool { return v.State == history.IncidentPaused }

// Which says of which webhooks it is.
func (v incidentView) Which() string {
	which := "any error"
	if len(v.Errors) > 0 {
		which = strings.Join(v.Errors, ", ")
	}
	if len(v.BotIds) == 0 {
		return which + "; all bots"
	}
	return which + "; " + named(v.BotIds)
}

// Only leads to the plan for one of its errors alone; "": there is no other, or it has begun.
func (v incidentView) Only(err string) string {
	if v.State != subscriptions.IncidentPlanned || len(v.Plan.Errors) < 2 || err == "" || strings.Contains(err, ",") {
		return ""
	}
	return planPath(url.Values{
		"disabledSince": {webhook.FormatTime(v.DisabledSince)}, "disabledUntil": {webhook.FormatTime(v.DisabledUntil)},
		"errors": {err}, "botIds": {strings.Join(v.BotIds, ",")},
	})
}

// maxNamed is how many bots are named.
const maxNamed = 10

func named(ids []string) string {
	if len(ids) > maxNamed {
		return fmt.Sprintf("%s and %d more bots", strings.Join(ids[:maxNamed], ", "), len(ids)-maxNamed)
	}
	return strings.Join(ids, ", ")
}

// Missed is how many events were, in words.
func (v incidentView) Missed() string {
	m := v.Plan.Missed
	text := fmt.Sprint(m.Events)
	if m.AtLeast {
		text = "at least " + text
	}
	if m.Estimated {
		text += fmt.Sprintf(", estimated from %d webhooks", m.Sample)
	}
	return text
}

func (s *site) listIncidents(w http.ResponseWriter, r *http.Request) error {
	return s.showIncidents(w, r, pages.Form{}, 0)
}

func (s *site) showIncidents(w http.ResponseWriter, r *http.Request, form pages.Form, status int) error {
	before, err := web.ParseID(r.URL.Query().Get("after"))
	if err != nil {
		before = uuid.Nil
	}
	rows, more, err := s.Webhooks.Incidents(r.Context(), before)
	if err != nil {
		return err
	}
	views, next := make([]incidentView, len(rows)), ""
	for i, row := range rows {
		views[i] = s.viewOf(row)
		if more {
			next = row.ID.String()
		}
	}
	data := pageOf(views, r.URL.Query(), next)
	return s.show(w, r, "incidents", pages.Page{Title: "Incidents", Nav: "incidents", Data: data, Form: form, Status: status})
}

// incidentInput reads which webhooks an incident is about. Lists are separated by commas or lines.
func incidentInput(values url.Values, faults *problem.Faults) subscriptions.IncidentInput {
	return subscriptions.IncidentInput{
		DisabledSince: timeOf(values, "disabledSince", faults), DisabledUntil: timeOf(values, "disabledUntil", faults),
		Errors: listOf(values.Get("errors")), BotIDs: listOf(values.Get("botIds")),
	}
}

// timeOf reads a time: RFC 3339, or what a field of a date and a time sends, in UTC.
func timeOf(values url.Values, name string, faults *problem.Faults) *time.Time {
	text := strings.TrimSpace(values.Get(name))
	if text == "" {
		return nil
	}
	t, err := pages.ParseTime(text)
	if err != nil {
		faults.Add(name, "must be a time, such as 2025-03-20T10:30")
		return nil
	}
	return &t
}

// listOf is nil for an empty list.
func listOf(text string) (list []string) {
	for _, one := range strings.FieldsFunc(text, func(c rune) bool { return c == ',' || c == '\n' || c == '\r' }) {
		if one = strings.TrimSpace(one); one != "" {
			list = append(list, one)
		}
	}
	return list
}

// planPage is what an incident's recovery would come to, and what starts it. Its span does not move on meanwhile.
type planPage struct {
	View   incidentView
	Hidden []field
}

func (s *site) planIncident(w http.ResponseWriter, r *http.Request) error {
	query, faults := r.URL.Query(), &problem.Faults{}
	planned, err := s.Webhooks.RecoverIncident(r.Context(), incidentInput(query, faults), true, faults)
	if err != nil {
		form, status, ok := pages.FormOf(r, err)
		if !ok {
			return err
		}
		form.Values = query
		return s.showIncidents(w, r, form, status)
	}
	data := planPage{s.viewOf(planned), []field{
		{"disabledSince", webhook.FormatTime(planned.DisabledSince)},
		{"disabledUntil", webhook.FormatTime(planned.DisabledUntil)},
		{"errors", strings.Join(planned.Errors, ",")},
		{"botIds", strings.Join(planned.BotIds, ",")},
	}}
	return s.show(w, r, "plan", pages.Page{Title: "Undo this incident?", Nav: "incidents", Data: data})
}

func (s *site) startIncident(w http.ResponseWriter, r *http.Request) error {
	faults := &problem.Faults{}
	started, err := s.Webhooks.RecoverIncident(r.Context(), incidentInput(r.PostForm, faults), false, faults)
	if err != nil {
		form, status, ok := pages.FormOf(r, err)
		if !ok {
			return err
		}
		return s.showIncidents(w, r, form, status)
	}
	return done(w, r, incidentPath(started.ID), "incident-started")
}

func (s *site) incident(r *http.Request) (incidentView, error) {
	id, err := web.ParseID(r.PathValue("id"))
	if err != nil {
		return incidentView{}, err
	}
	i, err := s.Webhooks.Incident(r.Context(), id)
	if err != nil {
		return incidentView{}, err
	}
	return s.viewOf(i), nil
}

func (s *site) oneIncident(w http.ResponseWriter, r *http.Request) error {
	view, err := s.incident(r)
	if err != nil {
		return err
	}
	return s.show(w, r, "incident", pages.Page{Title: "Incident", Nav: "incidents", Data: view})
}

func (s *site) setIncident(state string) handle {
	return func(w http.ResponseWriter, r *http.Request) error {
		id, err := web.ParseID(r.PathValue("id"))
		if err != nil {
			return err
		}
		if _, err := s.Webhooks.SetIncidentState(r.Context(), id, state); err != nil {
			return err
		}
		return done(w, r, incidentPath(id), "incident-changed")
	}
}

func (s *site) cancelIncidentForm(w http.ResponseWriter, r *http.Request) error {
	view, err := s.incident(r)
	if err != nil {
		return err
	}
	return s.confirm(w, r, "Cancel this incident's recovery?", confirmation{
		Back: incidentPath(view.ID), BackText: "Incident", Action: incidentPath(view.ID) + "/cancel", Button: "Cancel it", Danger: true,
		Text: []string{"No further webhook is enabled, and the recoveries that run end. What was enabled stays enabled. This is final."},
	})
}

// who is who made a change.
func who(a audit.Actor) string {
	if a.Kind == audit.System {
		return "the service, by itself"
	}
	return strings.Join(slices.DeleteFunc([]string{string(a.Kind), a.Name}, func(text string) bool { return text == "" }), " ")
}
