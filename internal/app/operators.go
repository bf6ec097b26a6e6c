package app

import (
	"net/http"
	"sync/atomic"

	"github.com/mathub/webhooks/api"
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

// startOperators makes the pages of a process that serves the API, on the API's services.
func (s *apiService) startOperators(cfg *api.Config) error {
	services := cfg.Services()
	handler, err := operators.New(operators.Config{
		Ops: services.Ops, Bots: services.Bots, Webhooks: services.Webhooks, History: services.History, Audit: services.Audit,
		Logger: s.log, Version: s.version, TrustedProxies: cfg.TrustedProxies,
	})
	if err != nil {
		return err
	}
	s.operators.handler.Store(&handler)
	return nil
}
