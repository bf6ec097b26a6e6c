package pages

import (
	"net/http"
	"slices"
	"time"

	"github.com/mathub/webhooks/internal/problem"
)

const (
	// ThemeCookie keeps the reader's theme, for themeTime.
	ThemeCookie = "mathub-theme"
	themeTime   = 365 * 24 * time.Hour
)

var themes = []string{"system", "light", "dark"}

// Theme is light, dark, or what the reader's system says.
func Theme(r *http.Request) string {
	if cookie, err := r.Cookie(ThemeCookie); err == nil && slices.Contains(themes, cookie.Value) {
		return cookie.Value
	}
	return themes[0]
}

// SetTheme keeps the theme of a form. cookie says which attributes a cookie of these pages has.
func SetTheme(w http.ResponseWriter, r *http.Request, cookie http.Cookie) error { //nolint:gosec // it sets HttpOnly, and its callers the rest
	chosen := r.PostForm.Get("theme")
	if !slices.Contains(themes, chosen) {
		return &problem.Error{Kind: problem.Malformed, Detail: "The theme is system, light or dark."}
	}
	cookie.Name, cookie.Value = ThemeCookie, chosen
	cookie.MaxAge, cookie.HttpOnly = int(themeTime.Seconds()), true
	http.SetCookie(w, &cookie)
	return nil
}
