// Package portal is the pages of bot developers: server-rendered, with one style sheet and one module of ours. Each action
// is a form, so that all of it works without JavaScript. Its handlers call the services that the bot API calls.
package portal

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/internal/audit"
	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/pages"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/internal/subscriptions"
	"github.com/mathub/webhooks/internal/web"
)

// Options are what an operator says about the portal.
type Options struct {
	// Off leaves only the index and the static files.
	Off bool
	// Embed are the origins whose pages may show the portal within a frame.
	Embed []string
}

// Limits are those of the API, which the portal shares.
type Limits interface {
	// CheckKey finds a bot's key. Wrong ones are counted for the client's address.
	CheckKey(ctx context.Context, client, key string) (botID string, keyID uuid.UUID, err error)
	// CheckCode calls check, and counts a wrong code, of a link or a session, as CheckKey counts a wrong key.
	CheckCode(ctx context.Context, client, code string, check func() error) error
	// Know takes a code that was just made, so that it works from an address with too many wrong ones.
	Know(code string)
	// BeginCall counts a request of a bot: those of a minute, and those in progress until end is called.
	BeginCall(ctx context.Context, botID string) (end func(), err error)
}

// Config is what the portal needs. All but Options and Version is required.
type Config struct {
	Options
	Bots     *bots.Service
	Webhooks *subscriptions.Service
	History  *history.Reader
	Audit    *audit.Reader
	Limits   Limits
	Logger   *slog.Logger
	Version  string
}

type portal struct {
	Config
	pages  pages.Set
	policy string
	mux    *http.ServeMux
	routes []route
}

// route is one of the portal's, for the tests that walk all of them.
type route struct {
	method, pattern string
	access          access
}

// access says who may use a route.
type access int

const (
	anybody  access = iota
	viewers         // who is signed in
	leavers         // who is signed in, also to a suspended bot
	managers        // whose role is not view
)

const (
	// requestTimeout bounds a page or an action that the database answers.
	requestTimeout = 5 * time.Second
	// sendTimeout bounds an action that waits for a delivery, which takes 30 s at most.
	sendTimeout = 40 * time.Second
)

// New returns the portal. It serves /, /portal and what is below; the API's shared middleware stands before it and sets
// the request's web.Origin.
func New(cfg Config) (http.Handler, error) {
	p, err := newPortal(cfg)
	if err != nil {
		return nil, err
	}
	return p.handler(), nil
}

func newPortal(cfg Config) (*portal, error) {
	templates, err := pages.NewSet(templateFiles)
	if err != nil {
		return nil, err
	}
	p := &portal{Config: cfg, pages: templates, policy: pages.Policy(cfg.Embed), mux: http.NewServeMux()}
	p.get("/{$}", anybody, p.index)
	p.get("/portal/static/{hash}/{name}", anybody, func(w http.ResponseWriter, r *http.Request, _ *session) error { return pages.ServeAsset(w, r) })
	p.get("/portal/", anybody, p.nowhere)
	if cfg.Off {
		return p, nil
	}
	p.signInRoutes()
	p.themeRoutes()
	p.webhooksRoutes()
	p.deliveriesRoutes()
	p.recoverRoutes()
	p.eventsRoutes()
	p.settingsRoutes()
	p.auditRoutes()
	return p, nil
}

func (p *portal) handler() http.Handler {
	return pages.Guard(p.mux, p.policy, func(w http.ResponseWriter, r *http.Request) { p.fail(w, r, nil, pages.ErrOtherOrigin) })
}

// handle answers one request. s is nil where nobody needs to be signed in. An error becomes a page that says it.
type handle func(w http.ResponseWriter, r *http.Request, s *session) error

// get registers a page. A GET changes nothing.
func (p *portal) get(pattern string, who access, h handle) {
	p.route(http.MethodGet, pattern, who, requestTimeout, h)
}

// post registers an action. Its form is parsed; it ends with done, or with a page that shows a secret once.
func (p *portal) post(pattern string, who access, h handle) {
	p.route(http.MethodPost, pattern, who, requestTimeout, h)
}

// send registers an action that waits for a delivery.
func (p *portal) send(pattern string, h handle) {
	p.route(http.MethodPost, pattern, managers, sendTimeout, h)
}

func (p *portal) route(method, pattern string, who access, limit time.Duration, h handle) {
	p.routes = append(p.routes, route{method, pattern, who})
	p.mux.HandleFunc(method+" "+pattern, func(w http.ResponseWriter, r *http.Request) {
		// Who hangs up cuts nothing off: that would end a connection to Postgres, and another is dearer than the page.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), limit)
		defer cancel()
		r = r.WithContext(ctx)
		s, end, err := p.admit(w, r, who)
		if err == nil {
			defer end()
			r = r.WithContext(audit.As(r.Context(), actor(w, r, s)))
			err = pages.CheckText(r.URL.Query())
		}
		if err == nil && r.Method == http.MethodPost {
			err = pages.ParseForm(r)
		}
		if err == nil {
			err = h(w, r, s)
		}
		if err != nil {
			p.fail(w, r, s, err)
		}
	})
}

// admit finds the session that a route asks for, and counts the request until end is called.
func (p *portal) admit(w http.ResponseWriter, r *http.Request, who access) (s *session, end func(), err error) {
	end = func() {}
	if who == anybody {
		return nil, end, nil
	}
	if s, err = p.session(w, r); err != nil && (who != leavers || !problem.Is(err, problem.Forbidden)) {
		return s, end, err
	}
	if who == managers && s.Role != bots.Manage {
		return s, end, errViewOnly
	}
	end, err = p.Limits.BeginCall(r.Context(), s.BotID)
	return s, end, err
}

// actor is who makes the changes of a request, for the audit log. s is nil where nobody is signed in yet.
func actor(w http.ResponseWriter, r *http.Request, s *session) audit.Actor {
	by := audit.Actor{Kind: audit.Portal, Client: web.OriginOf(r).Address, Request: w.Header().Get("X-Request-Id")}
	if s != nil {
		by = s.As(by)
	}
	return by
}

// nowhere is where no page is. Who is signed in keeps the navigation.
func (p *portal) nowhere(w http.ResponseWriter, r *http.Request, _ *session) error {
	if p.Off {
		return pages.ErrNoPage
	}
	s, _ := p.session(w, r) // nil, unless somebody is
	p.fail(w, r, s, pages.ErrNoPage)
	return nil
}

// index leads to what this service shows.
func (p *portal) index(w http.ResponseWriter, r *http.Request, _ *session) error {
	return p.show(w, r, nil, "index", page{Title: "Start", Narrow: true, Data: !p.Off})
}

// base is the portal's path, as the client's browser knows it.
func base(r *http.Request) string { return prefix(r) + strings.TrimSuffix(root, "/") }
