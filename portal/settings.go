package portal

import (
	"net/http"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/problem"
)

const settingsPath = "/portal/settings"

func (p *portal) settingsRoutes() {
	p.get(settingsPath, viewers, p.settings)
	p.post("/portal/settings/sessions/{id}/end", managers, p.endSession)
}

// settingsPage is what the page of settings shows.
type settingsPage struct {
	Sessions []bots.PortalSession
}

func (p *portal) settings(w http.ResponseWriter, r *http.Request, s *session) error {
	sessions, err := p.Bots.PortalSessions(r.Context(), s.BotID)
	if err != nil {
		return err
	}
	return p.show(w, r, s, "settings", page{Title: "Settings", Nav: "settings", Data: settingsPage{Sessions: sessions}})
}

func (p *portal) endSession(w http.ResponseWriter, r *http.Request, s *session) error {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		return problem.ErrNotFound
	}
	if err := p.Bots.EndPortalSession(r.Context(), s.BotID, id); err != nil {
		return err
	}
	return done(w, r, settingsPath, "session-ended")
}
