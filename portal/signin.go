package portal

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/pages"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/internal/web"
)

// firstPage is where a sign-in leads by default.
const firstPage = "/portal/webhooks"

func (p *portal) signInRoutes() {
	p.get("/portal/{$}", anybody, p.start)
	p.get("/portal/open", anybody, p.open)
	p.post("/portal/session", anybody, p.signIn)
	p.post("/portal/sign-out", leavers, p.signOut)
}

// signInPage is what the sign-in page shows.
type signInPage struct {
	Next string
	// CookieLost: the browser has not kept the session that it was just given.
	CookieLost bool
}

// start is the sign-in page, or the first page of who is signed in.
func (p *portal) start(w http.ResponseWriter, r *http.Request, _ *session) error {
	if _, err := p.session(w, r); err == nil {
		sendTo(w, r, firstPage)
		return nil
	}
	return p.show(w, r, nil, "signin", page{Title: "Sign in", Narrow: true, Data: signInPage{Next: next(r.URL.Query().Get("next"))}})
}

// open is where a link leads. Its code is in the fragment, which no server sees: the module posts it when its reader asks
// for that, so that who looks a link over, as mail scanners do, does not use it up.
func (p *portal) open(w http.ResponseWriter, r *http.Request, _ *session) error {
	return p.show(w, r, nil, "open", page{Title: "Open the portal", Narrow: true})
}

// signIn takes a link's code or a bot's key.
func (p *portal) signIn(w http.ResponseWriter, r *http.Request, _ *session) error {
	cookie, to, err := p.newSession(r)
	if err != nil {
		f, status, ok := pages.FormOf(r, err)
		if !ok {
			return err
		}
		name := "signin"
		if r.PostForm.Has("code") {
			name = "open"
		}
		pages.SetRetryAfter(w, problem.Of(err))
		f.Values = url.Values{} // neither is shown again
		return p.show(w, r, nil, name, page{Title: "Sign in", Narrow: true, Status: status, Form: f, Data: signInPage{Next: next(r.PostForm.Get("next"))}})
	}
	if before, err := p.session(w, r); err == nil { // one browser, one session
		_ = p.Bots.EndPortalSession(r.Context(), before.BotID, before.ID) // it ends by itself
	}
	w.Header().Del("Set-Cookie")
	p.Limits.Know(cookie)
	p.setCookie(w, r, cookie)
	if to == "" {
		to = firstPage
	}
	sendTo(w, r, pages.WithQuery(to, "signed-in=1"))
	return nil
}

// newSession makes a session by the form's code or key, and says where it leads.
func (p *portal) newSession(r *http.Request) (cookie, to string, err error) {
	ctx, client := r.Context(), web.OriginOf(r).Client
	if r.PostForm.Has("code") {
		// All of the link will do.
		code := strings.TrimSpace(r.PostForm.Get("code"))
		if i := strings.LastIndexByte(code, '#'); i >= 0 {
			code = code[i+1:]
		}
		err = p.Limits.CheckCode(ctx, client, code, func() (err error) {
			cookie, to, err = p.Bots.OpenPortalLink(ctx, code)
			return err
		})
		return cookie, to, err
	}
	botID, keyID, err := p.Limits.CheckKey(ctx, client, strings.TrimSpace(r.PostForm.Get("key")))
	if err != nil {
		return "", "", err
	}
	end, err := p.Limits.BeginCall(ctx, botID) // else who has one key could have any number of sessions made at once
	if err != nil {
		return "", "", err
	}
	defer end()
	cookie, err = p.Bots.OpenPortalWithKey(ctx, botID, keyID)
	return cookie, next(r.PostForm.Get("next")), err
}

// next is a page to lead to: one of ours, or none.
func next(asked string) string {
	if !bots.IsPortalPath(asked) {
		return ""
	}
	return asked
}

// askToSignIn shows the sign-in page in place of one that needs a session. What an action was asked for is not kept.
func (p *portal) askToSignIn(w http.ResponseWriter, r *http.Request) {
	data := signInPage{CookieLost: r.URL.Query().Has("signed-in")}
	if r.Method == http.MethodGet {
		query := r.URL.Query()
		query.Del("signed-in")
		query.Del("done")
		data.Next = next((&url.URL{Path: r.URL.Path, RawQuery: query.Encode()}).RequestURI())
	}
	if err := p.show(w, r, nil, "signin", page{Title: "Sign in", Narrow: true, Status: http.StatusUnauthorized, Data: data}); err != nil {
		p.fail(w, r, nil, err)
	}
}

func (p *portal) signOut(w http.ResponseWriter, r *http.Request, s *session) error {
	if err := p.Bots.EndPortalSession(r.Context(), s.BotID, s.ID); err != nil && !problem.Is(err, problem.NotFound) {
		return err
	}
	p.setCookie(w, r, "")
	return done(w, r, root, "signed-out")
}
