package telemetry

import (
	"net/http"
	"net/http/pprof"
)

// Admin is what operators look at from inside: metrics at /metrics and profiles under /debug/pprof/. Whoever can reach it
// can read the process's memory, so it belongs on loopback or behind a firewall, never beside the API.
func Admin(m *Metrics) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", m.Handler())
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}
