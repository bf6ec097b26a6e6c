package api

import (
	"time"

	"github.com/mathub/webhooks/internal/audit"
	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/ops"
	"github.com/mathub/webhooks/internal/subscriptions"
	"github.com/mathub/webhooks/webhook"
)

// Services are what the API calls, and pages of the same process beside it.
type Services struct {
	Ops      *ops.Service
	Bots     *bots.Service
	Webhooks *subscriptions.Service
	History  *history.Reader
	Audit    *audit.Reader
}

// keepQueues is how old what lists show of queues may be: /ops asks for them several times a page, and operators look again.
const keepQueues = 2 * time.Second

// Services returns the services as they are configured.
func (cfg *Config) Services() Services {
	most := cfg.MaxWebhooksPerBot
	if most == 0 {
		most = webhook.MaxWebhooksPerBot
	}
	ofBots := &bots.Service{Pool: cfg.Pool, Keyset: cfg.Keyset, URLRules: cfg.URLRules, Log: cfg.Logger}
	return Services{
		Ops: &ops.Service{
			Pool: cfg.Pool, Temporal: cfg.Temporal, Bots: ofBots, UI: ops.UI{URL: cfg.TemporalUI, Namespace: cfg.Namespace},
			Retention: cfg.Retention, OutboundAccess: cfg.OutboundAccess, KeepQueues: keepQueues,
		},
		Bots: ofBots,
		Webhooks: &subscriptions.Service{
			Pool: cfg.Pool, Temporal: cfg.Temporal, Attributes: cfg.Attributes, Keyset: cfg.Keyset, URLRules: cfg.URLRules,
			MaxWebhooksPerBot: most, Verification: cfg.Verification, Retention: cfg.Retention, Logger: cfg.Logger,
		},
		History: &history.Reader{Pool: cfg.Pool},
		Audit:   &audit.Reader{Pool: cfg.Pool},
	}
}
