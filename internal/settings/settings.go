// Package settings holds the flags of the program's processes, which are also environment variables, and the rules
// between them. The help of a flag is its documentation; README.md has the table.
package settings

import (
	"log/slog"
	"net/netip"
	"net/url"
	"os"

	"github.com/mathub/webhooks/internal/eventschema"
	"github.com/mathub/webhooks/internal/searchattr"
	"github.com/mathub/webhooks/internal/telemetry"
	"github.com/mathub/webhooks/webhook"
)

// Process is the settings of one process: which parts it runs, and how.
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
	Search
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
	Keyset string `env:"MATHUB_KEYSET" required:"" help:"The keys that encrypt webhook URLs and secrets, from \"keyset new\"."`
	// CodecKeyset seals what Temporal keeps; empty: nothing is sealed.
	CodecKeyset string `env:"MATHUB_CODEC_KEYSET" help:"The keys that encrypt what Temporal keeps of events, from \"keyset new\". The same in every process. Default: none, not encrypted."`
}

// Search says how Temporal's lists find the product's workflows.
type Search struct {
	SearchAttributes string `env:"MATHUB_SEARCH_ATTRIBUTES" default:"register" enum:"register,exist,none" help:"Temporal's search attributes. register: made where they are missing. exist: they are there, and Temporal is not asked, as Temporal Cloud permits no worker. none: they are not used."`
}

// Attributes are the search attributes, and whether they are to be kept registered.
func (f Search) Attributes() (a *searchattr.Attributes, keep bool) {
	if f.SearchAttributes == "exist" {
		return searchattr.Assume(), false
	}
	return new(searchattr.Attributes), f.SearchAttributes == "register"
}

// URLs say which URLs a webhook, or a notice to a bot's owner, may have.
type URLs struct {
	EgressAllow      []netip.Prefix `env:"MATHUB_EGRESS_ALLOW" help:"Private networks (CIDRs) that webhooks may point to."`
	EgressAllowHTTP  bool           `name:"egress-allow-http" env:"MATHUB_EGRESS_ALLOW_HTTP" help:"Allow http:// webhook URLs."`
	EgressAllowPorts []uint16       `env:"MATHUB_EGRESS_ALLOW_PORTS" help:"Ports that webhooks may use although they are refused by default, such as 9200."`
	EgressNAT64      []netip.Prefix `name:"egress-nat64" env:"MATHUB_EGRESS_NAT64" help:"Prefixes of the network's NAT64 translators, such as 64:ff9b::/96. An address in one is checked as the IPv4 address that it contains."`
}

// Rules are the flags as the rules for URLs.
func (f URLs) Rules() webhook.URLRules {
	return webhook.URLRules{Allow: f.EgressAllow, AllowHTTP: f.EgressAllowHTTP, AllowPorts: f.EgressAllowPorts, NAT64: f.EgressNAT64}
}

// Log says which lines are logged, and how.
type Log struct {
	LogLevel  slog.Level `env:"MATHUB_LOG_LEVEL" default:"info" help:"The lowest level that is logged: debug, info, warn or error."`
	LogFormat string     `env:"MATHUB_LOG_FORMAT" default:"text" enum:"text,json" help:"The format of log lines: text or json."`
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
	Addr              string           `env:"MATHUB_ADDR" default:"127.0.0.1:8080" help:"Where the API listens."`
	InternalAddr      string           `env:"MATHUB_INTERNAL_ADDR" help:"A separate address for the service API, such as 127.0.0.1:8081. Empty: it is at MATHUB_ADDR."`
	ServiceToken      string           `env:"MATHUB_SERVICE_TOKEN" help:"The service API's bearer token. Empty: the service API is off."`
	MaxWebhooksPerBot int              `env:"MATHUB_MAX_WEBHOOKS_PER_BOT" default:"${most}" help:"The most webhooks a bot can have, up to 1000."`
	RateLimit         int              `env:"MATHUB_RATE_LIMIT" default:"600" help:"The most calls a minute a bot key can make to each process, a bot's calls other than GET, and its requests to the portal. 0: no limit."`
	EmitStarts        int              `env:"MATHUB_EMIT_STARTS" default:"1" help:"The most workflows of emitted events to start at once. Events that arrive meanwhile share the next one."`
	EmitGroup         int              `env:"MATHUB_EMIT_GROUP" default:"64" help:"The most events that share a workflow. 1: none do."`
	Schema            eventschema.Mode `env:"MATHUB_SCHEMA" default:"off" enum:"off,warn,enforce" help:"Whether the data of emitted events is held against the schema of its type. warn: the receipt says what does not fit. enforce: the event is refused."`
	TrustedProxies    []netip.Prefix   `env:"MATHUB_TRUSTED_PROXIES" help:"CIDRs of the proxies in front of the API. Their X-Forwarded-For, X-Forwarded-Prefix and X-Forwarded-Proto are trusted."`
	Portal            string           `env:"MATHUB_PORTAL" default:"on" enum:"on,off" help:"Whether bot developers have pages at /portal: on or off."`
	PortalEmbed       []string         `env:"MATHUB_PORTAL_EMBED" help:"Origins whose pages may show the portal in a frame, such as https://mathub.example. Empty: none."`
	PublicURL         string           `name:"public-url" env:"MATHUB_PUBLIC_URL" help:"The URL of the API and the portal as bot developers reach them, for links. Empty: that of the request which asks for a link."`
	TemporalUI        string           `name:"temporal-ui" env:"MATHUB_TEMPORAL_UI" help:"The URL of Temporal's Web UI, such as http://127.0.0.1:8233, for links to workflows. Empty: no links."`
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
	HistoryBudget  int64             `env:"MATHUB_HISTORY_BUDGET" default:"${budget}" help:"The most MiB that a bot's deliveries take. 0: no limit."`
	HistoryRows    int64             `env:"MATHUB_HISTORY_ROWS" default:"${rows}" help:"The most deliveries kept for a bot. 0: no limit."`
	AuditRetention webhook.Retention `env:"MATHUB_AUDIT_RETENTION" default:"400d" help:"How long the audit log is kept, such as 400d. 0: no limit."`
	UnverifiedRate webhook.Rate      `env:"MATHUB_UNVERIFIED_RATE" default:"${unverified}" help:"The limit of deliveries of a bot to an unverified host and port: a burst, then a rate a second (/s), minute (/m) or hour (/h). off: no limit."`
	RetrySchedule  webhook.Schedule  `env:"MATHUB_RETRY_SCHEDULE" default:"${schedule}" help:"The delays between attempts of a failed delivery, such as 30s,2m. Empty: no retries."`
	TraceReceivers bool              `env:"MATHUB_TRACE_RECEIVERS" help:"Send receivers a traceparent header (W3C Trace Context) when traces are exported."`
}

// Elsewhere names what a worker does not serve, and sends nothing to.
type Elsewhere struct {
	Addr         string `env:"MATHUB_ADDR" default:"127.0.0.1:8080" help:"Where the API listens, if on this machine. Webhooks must not point there."`
	InternalAddr string `env:"MATHUB_INTERNAL_ADDR" help:"Where the service API listens, if on this machine. Webhooks must not point there."`
	TemporalUI   string `name:"temporal-ui" env:"MATHUB_TEMPORAL_UI" help:"The URL of Temporal's Web UI. Webhooks must not point there."`
}

// Admin is the listener of operators.
type Admin struct {
	AdminAddr  string   `env:"MATHUB_ADMIN_ADDR" help:"Where health, metrics, profiles and the operators' pages (/ops) are served, such as 127.0.0.1:6060. It has no login: keep it private. Empty: off."`
	AdminHosts []string `name:"admin-hosts" env:"MATHUB_ADMIN_HOSTS" help:"Host names that MATHUB_ADMIN_ADDR answers to besides localhost and IP addresses, such as that of a proxy."`
}

// Policy is what the API promises to bots and the workers keep.
type Policy struct {
	VerifyEndpoints webhook.Verification `env:"MATHUB_VERIFY_ENDPOINTS" default:"optional" help:"Whether new endpoints are verified. optional: yes; an unverified one is limited to MATHUB_UNVERIFIED_RATE. require: yes; an unverified one receives nothing. off: only when the bot asks."`
	Retention       webhook.Retention    `env:"MATHUB_RETENTION" default:"${retention}" help:"How long events and deliveries are kept, such as 30d or 720h. 0: no limit."`
}

// parts are where the API and Temporal's Web UI are, whichever process serves the API.
func (p Process) parts() Elsewhere {
	if p.API == nil {
		return p.Elsewhere
	}
	return Elsewhere{Addr: p.API.Addr, InternalAddr: p.API.InternalAddr, TemporalUI: p.API.TemporalUI}
}

// UIOrigin is the origin of Temporal's Web UI as a browser names it, or empty where it is not known.
func (p Process) UIOrigin() string {
	u, err := url.Parse(p.parts().TemporalUI)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
