package api

import (
	"net/http"
	"net/http/pprof"
)

// Admin is what operators look at from inside: profiles, under /debug/pprof/. Whoever can reach it can read the
// process's memory, so it belongs on loopback or behind a firewall, never beside the API.
func Admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}
