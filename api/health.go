package api

import (
	"context"
	"encoding/json"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/mathub/webhooks/internal/egress"
)

// readyTimeout is how long all that a process stands on has to answer.
const readyTimeout = 2 * time.Second

// healthy is Health's status.
const healthy = "ok"

// accessTimeout is how long /readyz waits for a check of outbound access, of which it only tells: probes wait for a
// second. A check that takes longer is known to the next call.
const accessTimeout = 100 * time.Millisecond

// healthWith is the health of a process that delivers; access is nil for one that does not, as offset, which may be.
func healthWith(ctx context.Context, access func(context.Context) egress.Access, offset func() time.Duration) Health {
	if access == nil {
		return Health{Status: healthy}
	}
	ctx, cancel := context.WithTimeout(ctx, accessTimeout)
	defer cancel()
	known := access(ctx)
	outbound := OutboundAccess{DNS: string(known.DNS), Network: string(known.Network)}
	if known.Cause != "" {
		outbound.Cause = &known.Cause
	}
	if !known.CheckedAt.IsZero() {
		outbound.CheckedAt = (*timestamp)(&known.CheckedAt)
	}
	health := Health{Status: healthy, OutboundAccess: &outbound}
	if offset != nil {
		seconds := offset().Round(time.Millisecond).Seconds()
		health.ClockOffsetSeconds = &seconds
	}
	return health
}

// Readiness answers GET /healthz and /readyz on the admin listener. There /readyz asks for all that the process stands on;
// that of the API asks for Postgres alone, as most of its calls need nothing else.
type Readiness struct {
	checks atomic.Pointer[readinessChecks]
}

type readinessChecks struct {
	ready  func(context.Context) error
	access func(context.Context) egress.Access
	offset func() time.Duration
}

// When makes /readyz answer 200 from now on whenever ready, which gets 2 s, returns nil, and 503 with the error when it
// does not. Until then the process is starting, and /readyz says so. /readyz also shows what access and offset, see
// Config.ClockOffset, return, which does not change the status; both are nil in a process that delivers nothing.
func (r *Readiness) When(ready func(context.Context) error, access func(context.Context) egress.Access, offset func() time.Duration) {
	r.checks.Store(&readinessChecks{ready, access, offset})
}

// Beside returns next with the two paths before it.
func (r *Readiness) Beside(next http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", next)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { well(w, Health{Status: healthy}) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, request *http.Request) {
		checks := r.checks.Load()
		if checks == nil {
			http.Error(w, "the process is starting", http.StatusServiceUnavailable)
			return
		}
		ctx, cancel := context.WithTimeout(request.Context(), readyTimeout)
		defer cancel()
		if err := checks.ready(ctx); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		well(w, healthWith(ctx, checks.access, checks.offset))
	})
	return mux
}

// well answers as the API does.
func well(w http.ResponseWriter, health Health) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(health)
}
