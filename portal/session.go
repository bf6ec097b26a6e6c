package portal

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/pages"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/internal/web"
)

const (
	root = "/portal/"
	// sessionCookie is the session's; __Host- has browsers keep it to this host, and to https.
	sessionCookie = "mathub-portal"
	hostPrefix    = "__Host-"
	// liveHeader marks a request that a page makes by itself: it does not keep an idle session.
	liveHeader = "Mathub-Live"
)

var errViewOnly = &problem.Error{Kind: problem.Forbidden, Detail: "You can look at everything here, and change nothing. Ask for a link of the role manage."}

// session is who asks.
type session struct {
	bots.PortalSession
}

// CanManage is for templates: whether actions are shown.
func (s *session) CanManage() bool { return s.Role == bots.Manage }

// session is the request's; bots.ErrNoSession: there is none. With one of kind problem.Forbidden there is one, of a suspended bot, which may only
// end.
func (p *portal) session(w http.ResponseWriter, r *http.Request) (*session, error) {
	cookie, err := r.Cookie(cookieName(r))
	if err != nil {
		return nil, bots.ErrNoSession
	}
	ctx := r.Context()
	var found bots.PortalSession
	err = p.Limits.CheckCode(ctx, web.OriginOf(r).Client, cookie.Value, func() (err error) {
		found, err = p.Bots.PortalSession(ctx, cookie.Value, r.Header.Get(liveHeader) == "")
		return err
	})
	if errors.Is(err, bots.ErrNoSession) {
		p.setCookie(w, r, "")
	}
	if found.ID == uuid.Nil {
		return nil, err
	}
	return &session{found}, err
}

// plainHTTP says that the browser asks by http on its own machine. Anywhere else a session needs https: what browsers call
// a __Host- cookie they do not keep without.
func plainHTTP(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return !web.OriginOf(r).HTTPS && (err == nil && addr.Unmap().IsLoopback() || host == "localhost" || strings.HasSuffix(host, ".localhost"))
}

func cookieName(r *http.Request) string {
	if plainHTTP(r) {
		return sessionCookie
	}
	return hostPrefix + sessionCookie
}

// setCookie has the browser keep the session; "": forget it.
func (p *portal) setCookie(w http.ResponseWriter, r *http.Request, value string) {
	cookie := p.cookie(r, cookieName(r), value) //nolint:gosec // HttpOnly on the next line
	cookie.HttpOnly = true
	if value == "" {
		cookie.MaxAge = -1
	}
	http.SetCookie(w, cookie)
}

// cookie is one that lasts as long as the browser runs.
func (p *portal) cookie(r *http.Request, name, value string) *http.Cookie {
	cookie := &http.Cookie{Name: name, Value: value, Path: "/", Secure: !plainHTTP(r), SameSite: http.SameSiteLaxMode} //nolint:gosec // callers set HttpOnly; a browser on its own machine has no https
	if len(p.Embed) > 0 && cookie.Secure {                                                                             // within another site's page, and apart from those of other sites
		cookie.SameSite, cookie.Partitioned = http.SameSiteNoneMode, true
	}
	return cookie
}

// prefix is what a trusted proxy has cut off the path.
func prefix(r *http.Request) string { return web.OriginOf(r).Prefix }

// sendTo answers 303 to a path of the portal, such as /portal/webhooks?x=y.
func sendTo(w http.ResponseWriter, r *http.Request, path string) {
	http.Redirect(w, r, prefix(r)+path, http.StatusSeeOther) //nolint:gosec // our own path, or one that IsPortalPath takes; the prefix is a trusted proxy's
}

// done ends an action: path shows message, a key of messages.
func done(w http.ResponseWriter, r *http.Request, path, message string) error {
	sendTo(w, r, pages.WithQuery(path, "done="+url.QueryEscape(message)))
	return nil
}
