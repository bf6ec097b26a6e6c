package api

import (
	"time"

	"github.com/gin-gonic/gin"

	"github.com/mathub/webhooks/internal/ops"
)

// GetLate serves GET /late.
func (s *server) GetLate(c *gin.Context, _ GetLateParams) {
	s.answer(c, func() (reply, error) {
		q, err := readQuery(c, "minutes")
		if err != nil {
			return reply{}, err
		}
		minutes := q.integer("minutes", int(ops.MaxLate/time.Minute), int(ops.DefaultLate/time.Minute))
		if err := q.Err(); err != nil {
			return reply{}, err
		}
		found, err := s.ops.Late(c, time.Duration(minutes)*time.Minute)
		if err != nil {
			return reply{}, err
		}
		late := Late{
			Since: timestamp(found.Since), Queues: toOperatorWebhooks(found.Queues), MoreQueues: found.MoreQueues,
			Workflows: make([]LateWorkflow, len(found.Workflows)), MoreWorkflows: found.MoreWorkflows, TemporalAway: found.TemporalAway,
		}
		for i, w := range found.Workflows {
			late.Workflows[i] = LateWorkflow{ID: w.ID, RunID: w.RunID, Type: w.Type, EventID: orNull(w.EventID), StartedAt: timestamp(w.StartedAt), URL: w.URL}
		}
		return ok(late), nil
	})
}

// GetOverview serves GET /overview.
func (s *server) GetOverview(c *gin.Context) {
	s.answer(c, func() (reply, error) {
		found, err := s.ops.Overview(c)
		if err != nil {
			return reply{}, err
		}
		overview := Overview{At: timestamp(found.At), IsWrong: found.IsWrong(), Findings: make([]Finding, len(found.Findings))}
		for i, f := range found.Findings {
			overview.Findings[i] = toFinding(f)
		}
		return ok(overview), nil
	})
}

func toFinding(f ops.Finding) Finding {
	finding := Finding{
		Name: f.Name, IsWrong: f.IsWrong, Count: f.Count, AtLeast: f.AtLeast, Summary: f.Summary, Command: orNull(f.Command), Items: make([]FindingItem, len(f.Items)),
	}
	for i, item := range f.Items {
		finding.Items[i] = FindingItem{BotID: orNull(item.BotID), Host: orNull(item.Host), Text: item.Text, URL: item.URL}
		if item.WebhookID.Valid {
			finding.Items[i].WebhookID = &item.WebhookID.UUID
		}
	}
	return finding
}
