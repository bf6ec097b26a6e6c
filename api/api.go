// Package api is the REST API: for bots under /api/bot/v1, for Mathub's backend under /api/internal/v1. Its contract
// is openapi.yaml.
package api

import (
	"context"
	_ "embed"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/internal/audit"
	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/internal/eventschema"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/ops"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/internal/searchattr"
	"github.com/mathub/webhooks/internal/subscriptions"
	"github.com/mathub/webhooks/portal"
	"github.com/mathub/webhooks/webhook"
)

//go:embed openapi.yaml
var openAPI []byte

const (
	botPrefix     = "/api/bot/v1/"
	servicePrefix = "/api/internal/v1/"

	requestIDHeader = "X-Request-Id"
)

// Config is what the API needs. Pool, Temporal, Keyset and Logger are required.
type Config struct {
	Pool     *pgxpool.Pool
	Temporal client.Client
	Keyset   *db.Keyset
	Logger   *slog.Logger

	// Attributes are the namespace's search attributes. Nil: workflows have none.
	Attributes *searchattr.Attributes
	// Converter is the client's, where that seals what Temporal keeps. Nil: it is the SDK's default.
	Converter converter.DataConverter
	// ServiceToken is the service API's bearer token. Empty: the service API is off.
	ServiceToken string
	// URLRules say which URLs webhooks may have.
	URLRules webhook.URLRules
	// MaxWebhooksPerBot defaults to webhook.MaxWebhooksPerBot.
	MaxWebhooksPerBot int
	// RateLimit is the most calls a minute of a bot key. 0: no limit.
	RateLimit int
	// Now is the clock of the limits of calls. It defaults to time.Now.
	Now func() time.Time
	// Retention is how long events and deliveries are kept. 0: no limit.
	Retention webhook.Retention
	// TrustedProxies are believed in their X-Forwarded-For, X-Forwarded-Prefix and X-Forwarded-Proto. Empty: no proxy is.
	TrustedProxies []netip.Prefix
	// PublicURL begins links for bot developers. Empty: they begin as the request's URL does.
	PublicURL string
	// TemporalUI is the URL of Temporal's Web UI and Namespace what it shows. Empty: the API links to no workflow.
	TemporalUI, Namespace string
	// Stopping ends waiting polls when it is closed.
	Stopping <-chan struct{}
	// Version is shown in the Server header.
	Version string
	// Meter and Tracer default to none: nothing is measured or traced.
	Meter  metric.Meter
	Tracer trace.Tracer

	// Verification is what is asked of endpoints, by this process: see webhook.Verification.
	Verification webhook.Verification

	// Schemas, if not nil, hold emitted events against the schemas of their types; EnforceSchemas refuses those that do not fit.
	Schemas        *eventschema.Checker
	EnforceSchemas bool

	// EmitStarts and EmitGroup are emit.BatcherOptions' Starts and Group.
	EmitStarts, EmitGroup int
	// Progress is of the worker in this process; nil where there is none.
	Progress *emit.Progress

	// Portal is what the operator says about the portal.
	Portal portal.Options

	// OutboundAccess is shown by /readyz; nil in a process that delivers nothing.
	OutboundAccess func(context.Context) egress.Access
	// ClockOffset is by how much Postgres's clock is ahead of this process's, likewise.
	ClockOffset func() time.Duration
}

type server struct {
	cfg        Config
	log        *slog.Logger
	bots       *bots.Service
	webhooks   *subscriptions.Service
	history    *history.Reader
	audit      *audit.Reader
	ops        *ops.Service
	writes     *db.WriteCheck
	fairUse    *fairUse
	keyUse     *bots.KeyUse
	wrongKeys  *limiters // by the client's address
	pages      *limiters // of the portal, by the bot
	changes    *limiters // likewise, of calls that may change something, with whatever key
	listed     keyList
	calls      *atOnce
	stats      *atOnce // calls that read many statistics
	large      *room   // of large answers that are being sent to bots
	largeOfBot *atOnce // how many of those are one bot's
	largeOwn   *room   // and to Mathub's backend
	events     *db.EventReader
	batcher    *emit.Batcher
	waiting    *waiting
	document   document
	portal     http.Handler
	isSplit    bool // the service API has a listener of its own, which has no portal
	metrics    *requestMetrics
	emitted    *emitMetrics

	inProgress inProgress
}

// New returns the API as one handler.
func New(cfg Config) (http.Handler, error) {
	s, err := newServer(cfg)
	if err != nil {
		return nil, err
	}
	return s.router(everything)
}

// NewSplit returns the API in two: for strangers, without the service API, and for Mathub's backend, with it and without
// the bot API.
func NewSplit(cfg Config) (public, backend http.Handler, err error) {
	s, err := newServer(cfg)
	if err != nil {
		return nil, nil, err
	}
	s.isSplit = true
	if public, err = s.router(withoutService); err != nil {
		return nil, nil, err
	}
	backend, err = s.router(withoutBots)
	return public, backend, err
}

// servedDocument makes the document once in a process, as all servers serve the same.
var servedDocument = sync.OnceValues(func() (document, error) { return newDocument(openAPI) })

func newServer(cfg Config) (*server, error) {
	served, err := servedDocument()
	if err != nil {
		return nil, fmt.Errorf("openapi.yaml: %w", err)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	services, events := cfg.Services(), db.NewEventReader(cfg.Pool)
	s := &server{
		cfg: cfg, log: cfg.Logger, ops: services.Ops, bots: services.Bots, audit: services.Audit, history: services.History, webhooks: services.Webhooks,
		writes: db.NewWriteCheck(cfg.Pool), fairUse: newFairUse(cfg.RateLimit, cfg.Now), wrongKeys: newLimiters(wrongKeysPerMinute, manyLimiters, cfg.Now),
		pages: newUseLimits(cfg.RateLimit, cfg.Now), changes: newUseLimits(cfg.RateLimit, cfg.Now),
		calls: newAtOnce(maxCallsPerBot), stats: newAtOnce(1),
		large: newRoom(maxLargeBytes), largeOfBot: newAtOnce(maxLargePerBot), largeOwn: newRoom(maxLargeBytes),
		events: events, waiting: newWaiting(events, cfg.Stopping), document: served,
		emitted: newEmitMetrics(cfg.Meter), inProgress: inProgress{of: map[netip.Prefix]int{}},
	}

	s.batcher = emit.NewBatcher(cfg.Temporal, emit.BatcherOptions{
		Starts: cfg.EmitStarts, Group: cfg.EmitGroup, Options: emitOptions(&cfg),
		Lookup: s.lookUp, Started: s.emitted.started, Progress: cfg.Progress,
	})
	s.keyUse = &bots.KeyUse{Service: s.bots}
	s.portal, err = portal.New(portal.Config{
		Options: cfg.Portal, Bots: s.bots, Webhooks: s.webhooks, History: s.history, Audit: s.audit, Limits: portalLimits{s}, Logger: cfg.Logger, Version: cfg.Version,
	})
	return s, err
}

// part is what a listener has of the API.
type part int

const (
	everything part = iota
	withoutService
	withoutBots
)

// lacks says whether a path is of the API that this part leaves out.
func (p part) lacks(path string) bool {
	return p == withoutService && strings.HasPrefix(path, servicePrefix) || p == withoutBots && strings.HasPrefix(path, botPrefix)
}

func (s *server) router(p part) (http.Handler, error) {
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	router.HandleMethodNotAllowed = true
	router.RedirectTrailingSlash = false
	router.UseEscapedPath = true
	// A gin.Context ends with its request. gin uses it again for another: what outlives a call, as a timer does, takes the
	// request's own context.
	router.ContextWithFallback = true
	router.RemoteIPHeaders = []string{forwardedFor}
	proxies := make([]string, len(s.cfg.TrustedProxies))
	for i, proxy := range s.cfg.TrustedProxies {
		proxies[i] = proxy.String()
	}
	if err := router.SetTrustedProxies(proxies); err != nil {
		return nil, err
	}
	router.Use(withoutPorts, s.measure, s.identify, s.bound, s.recover, s.share)
	if p != everything {
		router.Use(func(c *gin.Context) {
			if p.lacks(written(c)) {
				c.Writer.Header().Del("Allow")
				fail(c, s.log, problem.ErrNotFound)
			}
		})
	}
	router.NoRoute(s.authenticate, func(c *gin.Context) { fail(c, s.log, problem.ErrNotFound) })
	router.NoMethod(func(c *gin.Context) {
		fail(c, s.log, notAllowed(c, c.Writer.Header().Get("Allow")))
	})
	RegisterHandlersWithOptions(router, s, GinServerOptions{
		Middlewares:  []MiddlewareFunc{s.authenticate, s.trace},
		ErrorHandler: func(c *gin.Context, _ error, _ int) { fail(c, s.log, problem.ErrNotFound) }, // of a path parameter
	})
	if p != withoutBots {
		router.Any("/", s.servePortal)
		router.Any("/portal", s.servePortal)
		router.Any("/portal/*path", s.servePortal)
	}
	router.GET("/docs/*file", s.guides)
	if s.metrics == nil {
		s.metrics = newRequestMetrics(s.cfg.Meter, router.Routes())
	}
	return headAsGet(router), nil
}

// notAllowed is for a path that is there, for the methods allowed only. What answers GET answers HEAD, see headAsGet.
func notAllowed(c *gin.Context, allowed string) error {
	allowed = strings.Replace(allowed, http.MethodGet, http.MethodGet+", "+http.MethodHead, 1)
	c.Header("Allow", allowed)
	return &problem.Error{Kind: problem.MethodNotAllowed, Detail: "Allowed methods: " + allowed + "."}
}

// headAsGet answers HEAD as GET, without the body, which net/http leaves away: RFC 9110 §9.1 asks every server for both,
// and load balancers look at health so.
func headAsGet(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			r = r.WithContext(context.WithValue(r.Context(), headKey{}, true)) // a copy
			r.Method = http.MethodGet
		}
		next.ServeHTTP(w, r)
	})
}

// headKey is what a request's context has where headAsGet made it one.
type headKey struct{}

func isHead(c *gin.Context) bool { return c.Request.Context().Value(headKey{}) != nil }

// identify names the request, for the answer and the log, and says how answers are to be read.
func (s *server) identify(c *gin.Context) {
	c.Header(requestIDHeader, uuid.NewString())
	c.Header("X-Content-Type-Options", "nosniff")
	c.Header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'") // no answer is a page
	c.Header("Referrer-Policy", "no-referrer")
	c.Header("Cache-Control", "no-store")
	c.Header("Server", "Mathub-Webhooks/"+s.cfg.Version)
}

// recover answers for a handler that panicked; the stack is for the log only.
func (s *server) recover(c *gin.Context) {
	defer func() {
		if p := recover(); p != nil {
			fail(c, s.log, &problem.Error{Kind: problem.Internal, Detail: "Internal error.", Cause: fmt.Errorf("panic: %v\n%s", p, debug.Stack())})
		}
	}()
	c.Next()
}

// Healthz answers while the process is up.
func (s *server) Healthz(c *gin.Context) {
	s.answer(c, func() (reply, error) { return ok(Health{Status: healthy}), nil })
}

// Readyz answers 200 when Postgres takes a write. Without Temporal, what needs only Postgres goes on, and an emit answers 503 by
// itself: no load balancer is to take this process away then.
func (s *server) Readyz(c *gin.Context) {
	s.answer(c, func() (reply, error) {
		ctx, cancel := toItsEnd(c.Request.Context(), readyTimeout)
		defer cancel()
		if err := s.writes.Check(ctx); err != nil {
			return reply{}, problem.UnavailableFor("Postgres", err)
		}
		return ok(healthWith(ctx, s.cfg.OutboundAccess, s.cfg.ClockOffset)), nil
	})
}

func emitOptions(cfg *Config) []emit.Option {
	options := []emit.Option{emit.SearchableBy(cfg.Attributes)}
	if cfg.Converter != nil {
		options = append(options, emit.ConvertedBy(cfg.Converter))
	}
	return options
}
