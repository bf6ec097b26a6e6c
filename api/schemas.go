package api

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
)

// GetSchema serves GET /schemas/:type.
func (s *server) GetSchema(c *gin.Context, eventType string) {
	spec, ok := webhook.Spec(webhook.EventType(eventType))
	if !ok {
		fail(c, s.log, problem.ErrNotFound)
		return
	}
	c.Data(http.StatusOK, "application/schema+json", spec.Schema())
}

// holdAgainstSchemas says what of each event's data does not fit; nil where nothing is looked at. The error, where such events
// are refused, names all of it.
func (s *server) holdAgainstSchemas(events webhook.Batch, place func(i int) string) ([][]webhook.FieldError, error) {
	if s.cfg.Schemas == nil {
		return nil, nil
	}
	all := events.Events()
	unfit := make([][]webhook.FieldError, len(all))
	var faults problem.Faults
	for i, e := range all {
		unfit[i] = s.cfg.Schemas.Faults(e)
		for _, f := range unfit[i] {
			faults.Add(place(i)+f.Field, f.Message)
		}
	}
	if s.cfg.EnforceSchemas {
		return nil, faults.Err()
	}
	return unfit, nil
}
