// Package operators is the pages of operators, at /ops on the admin listener: what is wrong now, and what can be done about it.
// Like the portal's, they are rendered here and work without JavaScript; each shows what a service has read, and calls what a
// service does. They have no login: whoever reaches the admin listener is an operator.
package operators

import (
	"context"
	"embed"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/internal/audit"
	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/ops"
	"github.com/mathub/webhooks/internal/pages"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/internal/subscriptions"
	"github.com/mathub/webhooks/internal/web"
)

//go:embed templates
var templateFiles embed.FS

// Root is where the pages begin.
const Root = "/ops"

const (
	// readTimeout bounds a page that the database answers.
	readTimeout = 5 * time.Second
	// maxAtOnce is how many requests are answered at once; others wait for as long as a page may take.
	maxAtOnce = 8
)

// Config is what the pages need. All but Version and TrustedProxies is required.
type Config struct {
	Ops      *ops.Service
	Bots     *bots.Service
	Webhooks *subscriptions.Service
	History  *history.Reader
	Audit    *audit.Reader
	Logger   *slog.Logger
	Version  string
	// TrustedProxies may name the operator: see web.OperatorOf.
	TrustedProxies []netip.Prefix
}

type site struct {
	Config
	pages  pages.Set
	mux    *http.ServeMux
	routes []string // for the tests that walk all of them
	places chan struct{}
}

// New returns the pages. They serve Root and what is below.
func New(cfg Config) (http.Handler, error) {
	s, err := newSite(cfg)
	if err != nil {
		return nil, err
	}
	return s.handler(), nil
}

func newSite(cfg Config) (*site, error) {
	templates, err := pages.NewSet(templateFiles)
	if err != nil {
		return nil, err
	}
	s := &site{Config: cfg, pages: templates, mux: http.NewServeMux(), places: make(chan struct{}, maxAtOnce)}
	s.get("/ops", s.overview)
	s.get("/ops/{$}", s.overview)
	s.get("/ops/late", s.late)
	s.get("/ops/static/{hash}/{name}", pages.ServeAsset)
	s.get("/ops/", func(http.ResponseWriter, *http.Request) error { return pages.ErrNoPage })
	s.post("/ops/theme", s.setTheme)
	s.botsRoutes()
	s.keysRoutes()
	s.webhooksRoutes()
	s.eventsRoutes()
	s.incidentsRoutes()
	s.pausesRoutes()
	s.fusesRoutes()
	s.get("/ops/audit", s.auditLog)
	return s, nil
}

func (s *site) handler() http.Handler {
	return pages.Guard(s.mux, pages.Policy(nil), func(w http.ResponseWriter, r *http.Request) { s.fail(w, r, pages.ErrOtherOrigin) })
}

// handle answers one request. An error becomes a page that says it.
type handle func(w http.ResponseWriter, r *http.Request) error

// get registers a page. A GET changes nothing.
func (s *site) get(pattern string, h handle) { s.route(http.MethodGet, pattern, h) }

// post registers an action. Its form is parsed; it ends with done.
func (s *site) post(pattern string, h handle) { s.route(http.MethodPost, pattern, h) }

func (s *site) route(method, pattern string, h handle) {
	s.routes = append(s.routes, method+" "+pattern)
	s.mux.HandleFunc(method+" "+pattern, func(w http.ResponseWriter, r *http.Request) {
		request := uuid.NewString()
		w.Header().Set("X-Request-Id", request)
		err := s.admit(w, r, request, h)
		if err != nil {
			s.fail(w, r, err)
		}
	})
}

// admit waits for a place, and answers in the operator's name.
func (s *site) admit(w http.ResponseWriter, r *http.Request, request string, h handle) error {
	wait, cancel := context.WithTimeout(r.Context(), readTimeout)
	defer cancel()
	select {
	case s.places <- struct{}{}:
		defer func() { <-s.places }()
	case <-wait.Done():
		return &problem.Error{Kind: problem.TooManyRequests, Detail: "Too many of these pages are being made. Try again in a moment."}
	}
	if err := pages.CheckText(r.URL.Query()); err != nil {
		return err
	}
	r = r.WithContext(audit.As(r.Context(), s.actor(r, request)))
	if r.Method == http.MethodPost {
		if err := pages.ParseForm(r); err != nil {
			return err
		}
		return h(w, r)
	}
	ctx, cancel := context.WithTimeout(r.Context(), readTimeout)
	defer cancel()
	return h(w, r.WithContext(ctx))
}

// actor makes the changes of a request: the user that a trusted proxy names, else the client's address.
func (s *site) actor(r *http.Request, request string) audit.Actor {
	by := audit.Actor{Kind: audit.Operator, Client: clientOf(r), Request: request}
	if by.Name = web.OperatorOf(r, s.TrustedProxies); by.Name == "" {
		by.Name = by.Client
	}
	return by
}

func clientOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// shown is a page as its template gets it.
type shown struct {
	pages.Page
	Who string // the operator
}

func (s *site) show(w http.ResponseWriter, r *http.Request, name string, with pages.Page) error {
	with.Base, with.Theme, with.Version = Root, pages.Theme(r), s.Version
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		with.Here = r.URL.RequestURI()
	}
	with.Message = messages[r.URL.Query().Get("done")]
	return s.pages.Show(w, r, name, shown{with, audit.By(r.Context()).Name}, with.Status)
}

// fail shows what is wrong.
func (s *site) fail(w http.ResponseWriter, r *http.Request, err error) {
	if web.HasHungUp(r, err) {
		w.WriteHeader(web.HungUp)
		return
	}
	e := problem.In(r.Context(), err)
	if e.Cause != nil {
		s.Logger.ErrorContext(r.Context(), "page failed", "request", w.Header().Get("X-Request-Id"), "method", r.Method, "route", r.Pattern, "error", e.Cause)
	}
	pages.SetRetryAfter(w, e)
	status := web.Status(e.Kind)
	if err := s.show(w, r, "error", pages.Page{Title: http.StatusText(status), Status: status, Narrow: true, Data: e.Error()}); err != nil {
		s.Logger.ErrorContext(r.Context(), "page failed", "error", err)
		http.Error(w, e.Detail, status)
	}
}

// again shows a page with what is wrong with its form, where err is about that.
func (s *site) again(w http.ResponseWriter, r *http.Request, name string, with pages.Page, err error) error {
	form, status, ok := pages.FormOf(r, err)
	if !ok {
		return err
	}
	with.Form, with.Status = form, status
	return s.show(w, r, name, with)
}

// done ends an action: path shows message, a key of messages.
func done(w http.ResponseWriter, r *http.Request, path, message string) error {
	http.Redirect(w, r, pages.WithQuery(path, "done="+url.QueryEscape(message)), http.StatusSeeOther) //nolint:gosec // a path of ours
	return nil
}

func (s *site) setTheme(w http.ResponseWriter, r *http.Request) error {
	if err := pages.SetTheme(w, r, http.Cookie{Path: Root, SameSite: http.SameSiteStrictMode}); err != nil { //nolint:gosec // the listener may have no TLS; no secret
		return err
	}
	back := r.PostForm.Get("back")
	if !web.IsPathBelow(back, Root) {
		back = Root
	}
	http.Redirect(w, r, back, http.StatusSeeOther) //nolint:gosec // a path below Root
	return nil
}

// messages are the results of actions. Pages show them by their keys, so that no link can have a page say what it likes.
var messages = map[string]string{
	"suspended":         "The bot is suspended.",
	"resumed":           "The bot is active again. Recover what its webhooks missed.",
	"bot-deleted":       "The bot was deleted.",
	"key-revoked":       "The key was revoked, and the sessions that it made have ended.",
	"session-ended":     "The session was ended.",
	"enabled":           "The webhook is enabled.",
	"disabled":          "The webhook is disabled.",
	"retried":           "What waits is attempted now, one at a time while the webhook fails.",
	"recovery-started":  "The recovery has started.",
	"recovery-ended":    "The recovery was cancelled. The delivery in flight completes.",
	"webhook-deleted":   "The webhook was deleted.",
	"incident-started":  "The incident's recovery has started.",
	"incident-changed":  "The incident's state is changed.",
	"deliveries-paused": "The deliveries are paused.",
	"fuse-reset":        "The fuse is reset. Failures of its class disable webhooks again.",
	"pause-ended":       "The pause has ended. What waited is sent now.",
}
