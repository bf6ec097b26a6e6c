package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/egress"
)

// readyTimeout is what everything that a process stands on has to answer in, together.
const readyTimeout = 2 * time.Second

// healthy is Health's status.
const healthy = "ok"

// accessTimeout is how long /readyz waits for a check of outbound access, of which it only tells: probes wait for a
// second. A check that takes longer is known to the next call.
const accessTimeout = 100 * time.Millisecond

// Ready makes a write to Postgres and a round trip through Temporal that reads Temporal's own database, since its server
// can report itself healthy when that is gone (temporalio/temporal issue 11691). It returns which of them is away, with
// the reasons in the error.
func Ready(ctx context.Context, writes *db.WriteCheck, temporal client.Client) (away []string, err error) {
	if pingErr := writes.Check(ctx); pingErr != nil {
		away, err = append(away, "Postgres"), fmt.Errorf("Postgres: %w", pingErr) //nolint:staticcheck // a name
	}
	if pingErr := pingTemporal(ctx, temporal); pingErr != nil {
		away, err = append(away, "Temporal"), errors.Join(err, fmt.Errorf("Temporal: %w", pingErr)) //nolint:staticcheck // a name
	}
	return away, err
}

// healthWith is the health of a process that delivers; access is nil for one that does not.
func healthWith(ctx context.Context, access func(context.Context) egress.Access) Health {
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
	return Health{Status: healthy, OutboundAccess: &outbound}
}

// Readiness answers GET /healthz and /readyz on the admin listener: a worker without an API has no other.
type Readiness struct {
	checks atomic.Pointer[readinessChecks]
}

type readinessChecks struct {
	ready  func(context.Context) error
	access func(context.Context) egress.Access
}

// When makes /readyz answer 200 from now on whenever ready, which gets 2 s, returns nil, and 503 with the error when it
// does not. Until then the process is starting, and /readyz says so. What access returns is told, and is no condition; it
// is nil in a process that delivers nothing.
func (r *Readiness) When(ready func(context.Context) error, access func(context.Context) egress.Access) {
	r.checks.Store(&readinessChecks{ready, access})
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
		well(w, healthWith(ctx, checks.access))
	})
	return mux
}

// well answers as the API does.
func well(w http.ResponseWriter, health Health) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(health)
}
