package app

import (
	"context"
	"net/http"
	"strings"
	"sync"

	"github.com/mathub/webhooks/api"
	"github.com/mathub/webhooks/internal/eventschema"
	"github.com/mathub/webhooks/internal/listen"
	"github.com/mathub/webhooks/portal"
)

// apiService makes the process ready, and serves the API where it has one: at one address, or the service API at its own.
type apiService struct {
	*process
	serving sync.WaitGroup
}

// Name implements Service.
func (*apiService) Name() string { return "API" }

// Start implements Service. What fails later ends the process.
func (s *apiService) Start(ctx context.Context) error {
	checks := s.checks()
	s.readiness.When(checks.run, s.access, s.clockOffset())
	s.serving.Go(func() { checks.keep(ctx, s.metrics.Meter(), s.settings.API != nil) })
	if s.settings.API == nil {
		return nil
	}
	cfg := s.config(ctx)
	if s.settings.API.Schema != eventschema.Off {
		var err error
		if cfg.Schemas, err = eventschema.NewChecker(); err != nil {
			return err
		}
	}
	servers, err := s.servers(cfg)
	if err != nil {
		return err
	}
	if err := s.startOperators(&cfg); err != nil {
		return err
	}
	s.serving.Go(func() {
		if err := listen.Run(ctx, s.log, servers...); err != nil {
			s.failed <- err
		}
	})
	return nil
}

// Stop implements Service: it serves until the end of Start's context.
func (s *apiService) Stop() { s.serving.Wait() }

func (s *apiService) servers(cfg api.Config) ([]listen.Server, error) {
	f := s.settings.API
	public := listen.Server{Name: "API", Variable: "MATHUB_ADDR", Addr: f.Addr, Trusted: f.TrustedProxies}
	if f.InternalAddr == "" {
		handler, err := api.New(cfg)
		public.Handler = refuseDeliveries(handler)
		return []listen.Server{public}, err
	}
	internal := listen.Server{Name: "service API", Variable: "MATHUB_INTERNAL_ADDR", Addr: f.InternalAddr, Trusted: f.TrustedProxies}
	outer, inner, err := api.NewSplit(cfg)
	public.Handler, internal.Handler = refuseDeliveries(outer), refuseDeliveries(inner)
	return []listen.Server{public, internal}, err
}

func (s *apiService) config(ctx context.Context) api.Config {
	f := s.settings.API
	return api.Config{
		Converter:         s.codec.Converter(),
		Pool:              s.pool,
		Temporal:          s.temporal,
		Attributes:        s.attributes,
		Keyset:            s.keyset,
		ServiceToken:      strings.TrimSpace(f.ServiceToken), // a file ends with a line break, which no header can have
		URLRules:          s.settings.Rules(),
		MaxWebhooksPerBot: f.MaxWebhooksPerBot,
		RateLimit:         f.RateLimit,
		EmitStarts:        f.EmitStarts,
		EmitGroup:         f.EmitGroup,
		Progress:          s.progress,
		Retention:         s.settings.Retention,
		Verification:      s.settings.VerifyEndpoints,
		EnforceSchemas:    f.Schema == eventschema.Enforce,
		TrustedProxies:    f.TrustedProxies,
		TemporalUI:        f.TemporalUI,
		Namespace:         s.namespace,
		Stopping:          ctx.Done(),
		Logger:            s.log,
		Version:           s.version,
		Meter:             s.metrics.Meter(),
		Tracer:            s.traces.Tracer(),
		OutboundAccess:    s.access,
		ClockOffset:       s.clockOffset(),
		Portal:            portal.Options{Off: f.Portal == "off", Embed: f.PortalEmbed},
		PublicURL:         f.PublicURL,
	}
}

// refuseDeliveries answers 403 to what workers send. It stands before listeners of ours that a worker may not know of: an
// admin port of another machine, or the API by the address of its proxy.
func refuseDeliveries(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Mathub-Delivery") != "" {
			http.Error(w, "Webhooks must not point here.", http.StatusForbidden)
			return
		}
		handler.ServeHTTP(w, r)
	})
}
