// Package settings holds the flags of the program's processes, which are also environment variables, and the rules
// between them. The help of a flag is its documentation; README.md has the table.
package settings

import (
	"log/slog"
	"net/netip"
	"os"

	"github.com/mathub/webhooks/internal/telemetry"
	"github.com/mathub/webhooks/webhook"
)

// Process is what one process is told: which parts it runs, and how.
type Process struct {
	Common
	API    *API    // nil: it serves no API
	Worker *Worker // nil: it delivers nothing
	// Elsewhere says where the API is that another process serves. It is read where API is nil.
	Elsewhere Elsewhere
}

// Common are the settings of every process.
type Common struct {
	Policy
	Database
	Encryption
	Egress
	Log
	Admin
}

// Database says where Postgres is.
type Database struct {
	DatabaseURL string `name:"database-url" env:"MATHUB_DATABASE_URL" required:"" help:"Postgres, such as postgres://user:password@host/mathub."`
}

// Encryption holds the keys that encrypt webhook URLs and secrets.
type Encryption struct {
	Keyset string `env:"MATHUB_KEYSET" required:"" help:"The keys that encrypt webhook URLs and secrets, as \"keyset new\" printed them."`
}

// URLs say which URLs a webhook, or a notice to a bot's owner, may have.
type URLs struct {
	EgressAllow      []netip.Prefix `env:"MATHUB_EGRESS_ALLOW" help:"CIDRs that webhooks may point to although they are private, or this machine's."`
	EgressAllowHTTP  bool           `name:"egress-allow-http" env:"MATHUB_EGRESS_ALLOW_HTTP" help:"Allow http:// webhook URLs."`
	EgressAllowPorts []uint16       `env:"MATHUB_EGRESS_ALLOW_PORTS" help:"Ports that webhooks may have although they belong to other protocols, databases or control planes, such as 9200."`
	EgressNAT64      []netip.Prefix `name:"egress-nat64" env:"MATHUB_EGRESS_NAT64" help:"Prefixes of the network's NAT64 translators, such as 64:ff9b::/96: an address in one is judged by the IPv4 address within."`
}

// Rules are the flags as the rules for URLs.
func (f URLs) Rules() webhook.URLRules {
	return webhook.URLRules{Allow: f.EgressAllow, AllowHTTP: f.EgressAllowHTTP, AllowPorts: f.EgressAllowPorts, NAT64: f.EgressNAT64}
}

// Log says which lines are logged, and how.
type Log struct {
	LogLevel  slog.Level `env:"MATHUB_LOG_LEVEL" default:"info" help:"The least level logged: debug, info, warn or error."`
	LogFormat string     `env:"MATHUB_LOG_FORMAT" default:"text" enum:"text,json" help:"How log lines are written: text or json."`
}

// Logger writes to the standard error.
func (f Log) Logger() *slog.Logger {
	options := &slog.HandlerOptions{Level: f.LogLevel}
	var handler slog.Handler = slog.NewTextHandler(os.Stderr, options)
	if f.LogFormat == "json" {
		handler = slog.NewJSONHandler(os.Stderr, options)
	}
	return slog.New(telemetry.LimitLines(telemetry.WithTraceIDs(handler)))
}

// API are the settings of a process that serves the API.
type API struct {
	Addr              string         `env:"MATHUB_ADDR" default:"127.0.0.1:8080" help:"Where the API listens."`
	InternalAddr      string         `env:"MATHUB_INTERNAL_ADDR" help:"Where the service API listens, for Mathub's backend alone, such as 127.0.0.1:8081; MATHUB_ADDR is without it then. Empty: both are at MATHUB_ADDR."`
	ServiceToken      string         `env:"MATHUB_SERVICE_TOKEN" help:"The service API's bearer token; without one the service API is off."`
	MaxWebhooksPerBot int            `env:"MATHUB_MAX_WEBHOOKS_PER_BOT" default:"${most}" help:"How many webhooks a bot may have."`
	RateLimit         int            `env:"MATHUB_RATE_LIMIT" default:"600" help:"How many calls a bot key may make in a minute, of each process; 0: any number."`
	EmitStarts        int            `env:"MATHUB_EMIT_STARTS" default:"1" help:"How many workflows of emitted events are being started at once; events that come in meanwhile share the next."`
	EmitGroup         int            `env:"MATHUB_EMIT_GROUP" default:"64" help:"How many events share a workflow at most; 1: each has one of its own."`
	TrustedProxies    []netip.Prefix `env:"MATHUB_TRUSTED_PROXIES" help:"CIDRs of the proxies in front of the API, whose X-Forwarded-For names the client and whose X-Forwarded-Prefix goes before links."`
	TemporalUI        string         `name:"temporal-ui" env:"MATHUB_TEMPORAL_UI" help:"Where operators find Temporal's Web UI, such as http://127.0.0.1:8233, for links to workflows; empty: no links."`
}

// Addrs are where the API listens, by the variable that says so.
func (f API) Addrs() map[string]string {
	addrs := map[string]string{"MATHUB_ADDR": f.Addr}
	if f.InternalAddr != "" {
		addrs["MATHUB_INTERNAL_ADDR"] = f.InternalAddr
	}
	return addrs
}

// Worker are the settings of a process that delivers.
type Worker struct {
	HistoryBudget  int64            `env:"MATHUB_HISTORY_BUDGET" default:"${budget}" help:"How many MiB the deliveries of a bot may take; 0: any number."`
	HistoryRows    int64            `env:"MATHUB_HISTORY_ROWS" default:"${rows}" help:"How many deliveries of a bot are kept; 0: any number."`
	UnverifiedRate webhook.Rate     `env:"MATHUB_UNVERIFIED_RATE" default:"${unverified}" help:"How many deliveries at once, and a second (/s), minute (/m) or hour (/h) from then on, one bot may send to one host and port that has not agreed to it; off: any number."`
	RetrySchedule  webhook.Schedule `env:"MATHUB_RETRY_SCHEDULE" default:"${schedule}" help:"When a failed delivery is attempted again, such as 30s,2m; empty: never."`
	TraceReceivers bool             `env:"MATHUB_TRACE_RECEIVERS" help:"Send receivers a traceparent header (W3C Trace Context), where traces are sent to a collector."`
}

// Elsewhere names what a worker does not serve, and sends nothing to.
type Elsewhere struct {
	Addr         string `env:"MATHUB_ADDR" default:"127.0.0.1:8080" help:"Where the API listens, if on this machine: no webhook may lead there."`
	InternalAddr string `env:"MATHUB_INTERNAL_ADDR" help:"Where the service API listens, likewise."`
	TemporalUI   string `name:"temporal-ui" env:"MATHUB_TEMPORAL_UI" help:"Where Temporal's Web UI is: no webhook may lead there."`
}

// Admin is the listener of operators.
type Admin struct {
	AdminAddr string `env:"MATHUB_ADMIN_ADDR" help:"Where health, metrics and profiles can be read, such as 127.0.0.1:6060: nothing for strangers. Off when empty."`
}

// Policy is what the API promises to bots and the workers keep.
type Policy struct {
	VerifyEndpoints webhook.Verification `env:"MATHUB_VERIFY_ENDPOINTS" default:"optional" help:"What is asked of new endpoints. optional: whether they want deliveries; one that does not agree gets them at MATHUB_UNVERIFIED_RATE. require: it gets none. off: nothing, unless its bot wants to."`
	Retention       webhook.Retention    `env:"MATHUB_RETENTION" default:"${retention}" help:"How long events and deliveries are kept, such as 30d or 720h; 0: for ever."`
}
