package app

import (
	"net/http"
	"sync/atomic"

	"github.com/mathub/webhooks/internal/audit"
	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/ops"
	"github.com/mathub/webhooks/internal/subscriptions"
	"github.com/mathub/webhooks/operators"
)

// operatorPages are the pages of operators on the admin listener, once what they show is there. Its zero value answers that the
// process has none yet.
type operatorPages struct{ handler atomic.Pointer[http.Handler] }

// beside serves the pages, and next for the rest.
func (p *operatorPages) beside(next http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", next)
	serve := func(w http.ResponseWriter, r *http.Request) {
		if handler := p.handler.Load(); handler != nil {
			(*handler).ServeHTTP(w, r)
			return
		}
		http.Error(w, "This process is starting, or serves no API. The processes api and serve have the operators' pages.", http.StatusServiceUnavailable)
	}
	mux.HandleFunc(operators.Root, serve)
	mux.HandleFunc(operators.Root+"/", serve)
	return mux
}

// startOperators makes the pages of a process that serves the API.
func (s *apiService) startOperators() error {
	f := s.settings.API
	ofBots := &bots.Service{Pool: s.pool, Keyset: s.keyset, URLRules: s.settings.Rules(), Log: s.log}
	handler, err := operators.New(operators.Config{
		Ops: &ops.Service{
			Pool: s.pool, Temporal: s.temporal, Bots: ofBots, UI: ops.UI{URL: f.TemporalUI, Namespace: s.namespace},
			Retention: s.settings.Retention, OutboundAccess: s.access,
		},
		Bots: ofBots,
		Webhooks: &subscriptions.Service{
			Pool: s.pool, Temporal: s.temporal, Attributes: s.attributes, Keyset: s.keyset, URLRules: s.settings.Rules(),
			MaxWebhooksPerBot: f.MaxWebhooksPerBot, Verification: s.settings.VerifyEndpoints, Retention: s.settings.Retention, Logger: s.log,
		},
		History: &history.Reader{Pool: s.pool}, Audit: &audit.Reader{Pool: s.pool},
		Logger: s.log, Version: s.version, TrustedProxies: f.TrustedProxies,
	})
	if err != nil {
		return err
	}
	s.operators.handler.Store(&handler)
	return nil
}
