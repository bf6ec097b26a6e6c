package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/client"
)

// readyTimeout is what everything that a process stands on has to answer in, together.
const readyTimeout = 2 * time.Second

// Ready makes a round trip through Postgres and one through Temporal that reads Temporal's own database, since its server
// can report itself healthy when that is gone (temporalio/temporal issue 11691). It returns which of them is away, with
// the reasons in the error.
func Ready(ctx context.Context, pool *pgxpool.Pool, temporal client.Client) (away []string, err error) {
	if pingErr := pool.Ping(ctx); pingErr != nil {
		away, err = append(away, "Postgres"), fmt.Errorf("Postgres: %w", pingErr) //nolint:staticcheck // a name
	}
	if pingErr := pingTemporal(ctx, temporal); pingErr != nil {
		away, err = append(away, "Temporal"), errors.Join(err, fmt.Errorf("Temporal: %w", pingErr)) //nolint:staticcheck // a name
	}
	return away, err
}

// Readiness answers GET /healthz and /readyz on the admin listener: a worker without an API has no other.
type Readiness struct {
	check atomic.Pointer[func(context.Context) error]
}

// When makes /readyz answer 200 from now on whenever check, which gets 2 s, returns nil, and 503 with the error when it
// does not. Until then the process is starting, and /readyz says so.
func (r *Readiness) When(check func(context.Context) error) { r.check.Store(&check) }

// Beside returns next with the two paths before it.
func (r *Readiness) Beside(next http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", next)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { well(w) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, request *http.Request) {
		check := r.check.Load()
		if check == nil {
			http.Error(w, "the process is starting", http.StatusServiceUnavailable)
			return
		}
		ctx, cancel := context.WithTimeout(request.Context(), readyTimeout)
		defer cancel()
		if err := (*check)(ctx); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		well(w)
	})
	return mux
}

// well answers as the API does.
func well(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"status":"ok"}`+"\n")
}
