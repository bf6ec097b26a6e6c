package portal

import (
	"net/http"

	"github.com/google/uuid"
)

func (p *portal) webhooksRoutes() {
	p.get("/portal/webhooks", viewers, p.webhooks)
}

// webhooks is the first page: the bot's webhooks and how they are.
func (p *portal) webhooks(w http.ResponseWriter, r *http.Request, s *session) error {
	rows, _, err := p.Webhooks.List(r.Context(), s.BotID, uuid.Nil)
	if err != nil {
		return err
	}
	return p.show(w, r, s, "webhooks", page{Title: "Webhooks", Nav: "webhooks", Data: rows})
}
