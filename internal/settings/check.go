package settings

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"strings"

	"github.com/mathub/webhooks/webhook"
)

// maxBudgetMiB is what int64 has room for as bytes.
const maxBudgetMiB = math.MaxInt64 >> 20

// maxEmitStarts is far more than one connection to Temporal carries at once.
const maxEmitStarts = 1000

// Check finds what is wrong with settings that can be read, by themselves and together. The error names the variable and
// what is allowed.
func (p Process) Check() error {
	if err := p.API.check(); err != nil {
		return err
	}
	if _, err := p.EgressOptions(); err != nil {
		return err
	}
	return p.Worker.check(p.Retention)
}

func (f *API) check() error {
	if f == nil {
		return nil
	}
	switch {
	case f.MaxWebhooksPerBot < 1 || f.MaxWebhooksPerBot > webhook.MostWebhooksPerBot:
		return fmt.Errorf("MATHUB_MAX_WEBHOOKS_PER_BOT is %d; must be 1 to %d", f.MaxWebhooksPerBot, webhook.MostWebhooksPerBot)
	case f.Addr == "":
		return errors.New("MATHUB_ADDR is empty; must be host:port, such as 127.0.0.1:8080")
	case f.InternalAddr == f.Addr:
		return fmt.Errorf("MATHUB_INTERNAL_ADDR is %q, the same as MATHUB_ADDR; must differ, or be empty", f.Addr)
	case f.RateLimit < 0:
		return fmt.Errorf("MATHUB_RATE_LIMIT is %d; must be at least 0 (0: no limit)", f.RateLimit)
	case f.TemporalUI != "" && !isWebAddress(f.TemporalUI):
		return fmt.Errorf("MATHUB_TEMPORAL_UI is %q; must be an http or https URL, such as http://127.0.0.1:8233", f.TemporalUI)
	case f.PublicURL != "" && !isWebAddress(f.PublicURL):
		return fmt.Errorf("MATHUB_PUBLIC_URL is %q; must be an http or https URL, such as https://webhooks.mathub.example", f.PublicURL)
	case f.EmitStarts < 1 || f.EmitStarts > maxEmitStarts:
		return fmt.Errorf("MATHUB_EMIT_STARTS is %d; must be from 1 to %d", f.EmitStarts, maxEmitStarts)
	case f.EmitGroup < 1 || f.EmitGroup > webhook.MaxBatchEvents:
		return fmt.Errorf("MATHUB_EMIT_GROUP is %d; must be from 1 to %d", f.EmitGroup, webhook.MaxBatchEvents)
	}
	return f.checkEmbed()
}

// checkEmbed refuses what is no origin, or more than one.
func (f *API) checkEmbed() error {
	for _, origin := range f.PortalEmbed {
		if u, err := url.Parse(origin); err != nil || !isWebAddress(origin) || origin != u.Scheme+"://"+u.Host || strings.ContainsAny(origin, ";,'\"*") {
			return fmt.Errorf("MATHUB_PORTAL_EMBED has %q; must be origins, such as https://mathub.example", origin)
		}
	}
	return nil
}

func isWebAddress(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

func (f *Worker) check(kept webhook.Retention) error {
	if f == nil {
		return nil
	}
	if f.HistoryBudget < 0 || f.HistoryBudget > maxBudgetMiB {
		return fmt.Errorf("MATHUB_HISTORY_BUDGET is %d; must be from 0 (no limit) to %d MiB", f.HistoryBudget, maxBudgetMiB)
	}
	if f.HistoryRows < 0 {
		return fmt.Errorf("MATHUB_HISTORY_ROWS is %d; must be at least 0 (0: no limit)", f.HistoryRows)
	}
	if err := kept.Fits(f.RetrySchedule); err != nil {
		return fmt.Errorf("MATHUB_RETENTION: %w", err)
	}
	return nil
}
