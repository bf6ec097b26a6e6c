// Package ops is what operators look at over all bots, behind the service API, the command line and the operators' page. What
// they change, packages bots and subscriptions do.
package ops

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/client"

	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/webhook"
)

const (
	// MaxListed is how many bots or webhooks one call lists.
	MaxListed = 100
	// DefaultListed is how many are listed by default.
	DefaultListed = 50
	// mostRead is how many rows one call reads to find those that are wanted, and readAtOnce how many in one statement.
	mostRead   = 10_000
	readAtOnce = 500
	// mostCounted bounds counts that are shown, and mostCountedInAll those by which the longest queues are found.
	mostCounted      = 1000
	mostCountedInAll = 500_000
)

// Service answers operators. Its errors are of package problem, of package webhook for invalid input, or of the database.
type Service struct {
	Pool     *pgxpool.Pool
	Temporal client.Client
	Bots     *bots.Service
	// UI is Temporal's Web UI.
	UI UI
	// Retention is how long events are kept; 0: for ever.
	Retention webhook.Retention
	// OutboundAccess is what this process knows of its own; nil in a process that delivers nothing.
	OutboundAccess func(context.Context) egress.Access
	// KeepQueues is for how long what was read of all queues is shown again; 0: not at all.
	KeepQueues time.Duration

	allQueues queueList
}

// UI is Temporal's Web UI: its URL, empty where it is not known, and the namespace that it shows.
type UI struct{ URL, Namespace string }

// Workflow is the page of a workflow's run, of the latest one where runID is empty; nil where it is not known where that is.
func (u UI) Workflow(workflowID, runID string) *string {
	if u.URL == "" {
		return nil
	}
	page := fmt.Sprintf("%s/namespaces/%s/workflows/%s", strings.TrimRight(u.URL, "/"), url.PathEscape(u.Namespace), url.PathEscape(workflowID))
	if runID != "" {
		page += "/" + url.PathEscape(runID)
	}
	return &page
}

// scan reads rows in their order, each time those after the last one, until it has found limit that are wanted or has read
// mostRead. last is the row after which the next page begins; nil: there is none.
func scan[R any](limit int, read func(after *R, most int32) ([]R, error), wanted func(*R) bool) (found []R, last *R, err error) {
	var at *R
	for range mostRead / readAtOnce {
		rows, err := read(at, readAtOnce)
		if err != nil {
			return nil, nil, err
		}
		for i := range rows {
			at = &rows[i]
			if !wanted(at) {
				continue
			}
			if len(found) == limit {
				return found, &found[limit-1], nil
			}
			found = append(found, *at)
		}
		if len(rows) < readAtOnce {
			return found, nil, nil
		}
	}
	return found, at, nil
}
