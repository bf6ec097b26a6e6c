package api

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/subscriptions"
	"github.com/mathub/webhooks/internal/web"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows"
)

// RecoverIncident serves POST /recoveries of the service API.
func (s *server) RecoverIncident(c *gin.Context) {
	s.answer(c, func() (reply, error) {
		raw, err := readJSON(c, maxIncidentBytes)
		if err != nil {
			return reply{}, err
		}
		values, err := webhook.ParseObject(raw, "disabledSince", "disabledUntil", "errors", "botIds", "dryRun")
		if err != nil {
			return reply{}, err
		}
		m := &members{values: values}
		in := subscriptions.IncidentInput{
			DisabledSince: m.time("disabledSince"), DisabledUntil: m.time("disabledUntil"), Errors: m.texts("errors"), BotIDs: m.texts("botIds"),
		}
		dryRun := m.boolean("dryRun")
		counted := dryRun != nil && *dryRun
		i, err := s.webhooks.RecoverIncident(c.Request.Context(), in, counted, &m.Faults)
		if err != nil {
			return reply{}, err
		}
		if counted {
			return ok(s.toIncident(i)), nil
		}
		return accepted(s.toIncident(i)), nil
	})
}

// maxIncidentBytes has room for as many bots as an incident may name.
const maxIncidentBytes = 256 << 10

// ListIncidents serves GET /recoveries of the service API.
func (s *server) ListIncidents(c *gin.Context, _ ListIncidentsParams) {
	s.answer(c, func() (reply, error) {
		q, err := readQuery(c, "before")
		if err != nil {
			return reply{}, err
		}
		var before uuid.UUID
		if text, given := q.text("before"); given {
			if before, err = web.ParseID(text); err != nil {
				q.Add("before", "must be the id of an incident")
			}
		}
		if err := q.Err(); err != nil {
			return reply{}, err
		}
		rows, more, err := s.webhooks.Incidents(c, before)
		if err != nil {
			return reply{}, err
		}
		views := make([]Incident, len(rows))
		for i, row := range rows {
			views[i] = s.toIncident(row)
		}
		list, n := encodeList(views)
		if n < len(views) || more {
			s.linkNext(c, url.Values{"before": {*views[n-1].ID}})
		}
		return ok(list), nil
	})
}

// GetIncident serves GET /recoveries/:id of the service API.
func (s *server) GetIncident(c *gin.Context, id IncidentID) {
	s.answer(c, func() (reply, error) {
		incidentID, err := web.ParseID(id)
		if err != nil {
			return reply{}, err
		}
		i, err := s.webhooks.Incident(c, incidentID)
		return ok(s.toIncident(i)), err
	})
}

// UpdateIncident serves PATCH /recoveries/:id of the service API.
func (s *server) UpdateIncident(c *gin.Context, id IncidentID) {
	s.answer(c, func() (reply, error) {
		incidentID, err := web.ParseID(id)
		if err != nil {
			return reply{}, err
		}
		raw, err := readJSON(c, webhook.MaxRequestBytes)
		if err != nil {
			return reply{}, err
		}
		values, err := webhook.ParseObject(raw, "state")
		if err != nil {
			return reply{}, err
		}
		m := &members{values: values}
		allowed := []string{history.IncidentPaused, history.IncidentRunning, history.IncidentCancelled}
		state, given := m.text("state", true)
		if given && !slices.Contains(allowed, state) {
			m.Add("state", "must be one of: "+strings.Join(allowed, ", "))
		}
		if err := m.Err(); err != nil {
			return reply{}, err
		}
		i, err := s.webhooks.SetIncidentState(c.Request.Context(), incidentID, state)
		return ok(s.toIncident(i)), err
	})
}

// texts reads a list of strings; nil: there is none.
func (m *members) texts(field string) []string {
	raw, ok := m.given(field)
	if !ok {
		return nil
	}
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) != nil {
		m.Add(field, "must be an array of strings")
		return nil
	}
	texts := make([]string, len(items))
	for i, item := range items {
		if json.Unmarshal(item, &texts[i]) != nil || string(item) == "null" {
			m.Add(fmt.Sprintf("%s[%d]", field, i), "must be a string")
			return nil
		}
	}
	return texts
}

func (s *server) toIncident(i subscriptions.Incident) Incident {
	p := i.Progress
	view := Incident{
		State: i.State, DisabledSince: timestamp(i.DisabledSince), DisabledUntil: timestamp(i.DisabledUntil), Errors: listOrNull(i.Errors), BotIds: listOrNull(i.BotIds),
		Plan: toIncidentPlan(i.Plan), Found: p.Found, Enabled: p.Enabled, Skipped: p.Skipped, Recovering: p.Recovering, Recovered: p.Recovered, Failed: p.Failed,
		Reasons: make([]IncidentReason, len(p.Reasons)), StartedBy: toActor(history.StartedBy(i.Incident)), EndedAt: (*timestamp)(i.EndedAt),
	}
	for n, r := range p.Reasons {
		view.Reasons[n] = IncidentReason{State: r.State, Reason: r.Reason, Webhooks: r.Webhooks}
	}
	if i.ID != uuid.Nil {
		id, workflowID := i.ID.String(), workflows.IncidentWorkflowID(i.ID)
		view.ID, view.StartedAt = &id, (*timestamp)(&i.CreatedAt)
		view.Workflow = IncidentWorkflow{ID: &workflowID, URL: s.ops.UI.Workflow(workflowID, "")}
	}
	return view
}

func toIncidentPlan(plan history.IncidentPlan) IncidentPlan {
	view := IncidentPlan{
		Webhooks: plan.Webhooks, Bots: plan.Bots, Hosts: plan.Hosts, MoreErrors: plan.MoreErrors, Errors: make([]IncidentError, len(plan.Errors)),
		Missed: IncidentMissed(plan.Missed),
	}
	for i, e := range plan.Errors {
		view.Errors[i] = IncidentError{Class: e.Class, Error: orNull(e.Error), Webhooks: e.Webhooks}
	}
	return view
}

// listOrNull is null for an empty list.
func listOrNull(list []string) *[]string {
	if len(list) == 0 {
		return nil
	}
	return &list
}
