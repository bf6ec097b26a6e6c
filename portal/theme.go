package portal

import (
	"net/http"

	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/pages"
)

func (p *portal) themeRoutes() {
	p.post("/portal/theme", anybody, p.setTheme)
}

func (p *portal) setTheme(w http.ResponseWriter, r *http.Request, _ *session) error {
	if err := pages.SetTheme(w, r, *p.cookie(r, "", "")); err != nil {
		return err
	}
	back := r.PostForm.Get("back")
	if !bots.IsPortalPath(back) {
		back = root
	}
	sendTo(w, r, back)
	return nil
}
