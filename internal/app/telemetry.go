package app

import (
	"context"
	"net/http"

	"github.com/mathub/webhooks/internal/listen"
	"github.com/mathub/webhooks/internal/telemetry"
)

// tracing sends spans to a collector, where one is configured.
type tracing struct{ *process }

// Name implements Service.
func (*tracing) Name() string { return "traces" }

// Start implements Service.
func (s *tracing) Start(ctx context.Context) (err error) {
	s.traces, err = telemetry.NewTraces(ctx, s.version, s.log)
	return err
}

// Stop implements Service.
func (s *tracing) Stop() { s.traces.Close() }

// admin serves health, metrics, profiles and the operators' pages at MATHUB_ADMIN_ADDR, from before anything else works.
type admin struct {
	*process
	stop func()
}

// Name implements Service.
func (*admin) Name() string { return "admin listener" }

// Start implements Service.
func (s *admin) Start(ctx context.Context) (err error) {
	addr := s.settings.AdminAddr
	if addr == "" {
		return nil
	}
	if s.metrics, err = telemetry.NewMetrics(s.version, s.log); err != nil {
		return err
	}
	handler := refuseDeliveries(s.readiness.Beside(s.operators.beside(s.withCodec(telemetry.Admin(s.metrics)))))
	s.stop, err = listen.Admin(ctx, s.log, "MATHUB_ADMIN_ADDR", addr, listen.KnownHosts(handler, s.settings.AdminHosts...))
	return err
}

// withCodec adds the codec server for Temporal's Web UI, where payloads are sealed.
func (s *admin) withCodec(handler http.Handler) http.Handler {
	if s.codec == nil {
		return handler
	}
	mux := http.NewServeMux()
	mux.Handle("/", handler)
	mux.Handle("/codec/", s.codec.Handler(s.settings.UIOrigin()))
	return mux
}

// Stop implements Service.
func (s *admin) Stop() {
	if s.stop != nil {
		s.stop()
	}
}
