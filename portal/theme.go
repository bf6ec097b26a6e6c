package portal

import (
	"net/http"
	"slices"
	"time"

	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/problem"
)

const (
	themeCookie = "mathub-theme"
	themeTime   = 365 * 24 * time.Hour
)

var themes = []string{"system", "light", "dark"}

func (p *portal) themeRoutes() {
	p.post("/portal/theme", anybody, p.setTheme)
}

// theme is light, dark, or what the reader's system says.
func theme(r *http.Request) string {
	if cookie, err := r.Cookie(themeCookie); err == nil && slices.Contains(themes, cookie.Value) {
		return cookie.Value
	}
	return themes[0]
}

func (p *portal) setTheme(w http.ResponseWriter, r *http.Request, _ *session) error {
	chosen := r.PostForm.Get("theme")
	if !slices.Contains(themes, chosen) {
		return &problem.Error{Kind: problem.Malformed, Detail: "The theme is system, light or dark."}
	}
	cookie := p.cookie(r, themeCookie, chosen) //nolint:gosec // HttpOnly below
	cookie.MaxAge = int(themeTime.Seconds())
	cookie.HttpOnly = true
	http.SetCookie(w, cookie)
	back := r.PostForm.Get("back")
	if !bots.IsPortalPath(back) {
		back = root
	}
	sendTo(w, r, back)
	return nil
}
