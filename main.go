// Mathub Webhooks delivers Mathub's events to the webhooks that bot developers subscribe.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	temporallog "go.temporal.io/sdk/log"

	"github.com/mathub/webhooks/api"
	"github.com/mathub/webhooks/cli"
	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/egress"
	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/listen"
	"github.com/mathub/webhooks/telemetry"
	"github.com/mathub/webhooks/visibility"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/worker"
	"github.com/mathub/webhooks/workflows"
)

// version is set by the linker on a release: -ldflags "-X main.version=1.2.3".
var version = "dev"

type commands struct {
	Serve       serveCommand     `cmd:"" help:"Run the API and a worker in one process."`
	API         apiCommand       `cmd:"" name:"api" help:"Run the API alone."`
	Worker      workerCommand    `cmd:"" help:"Run a worker alone."`
	Migrate     cli.Migrate      `cmd:"" help:"Change the database's schema: bring it up to this version, say what is applied, take a step back."`
	Bot         cli.Bot          `cmd:"" help:"Make bots and their keys."`
	Keyset      cli.Keyset       `cmd:"" help:"Make the keys that encrypt webhook URLs and secrets."`
	Fuse        cli.Fuse         `cmd:"" help:"Show and reset what keeps a fault of our own network from disabling webhooks."`
	Listen      cli.Listen       `cmd:"" help:"Show a bot's events as they come, and forward them to a local URL."`
	Webhooks    cli.Webhooks     `cmd:"" help:"Manage a bot's webhooks."`
	Trigger     cli.Trigger      `cmd:"" help:"Emit sample events."`
	Emit        cli.Emit         `cmd:"" help:"Emit the events of a file, or of the standard input, one on a line."`
	Ops         cli.Ops          `cmd:"" help:"Look into what the service did, for operators."`
	Relay       cli.Relay        `cmd:"" help:"Emit what a backend has put into its outbox table."`
	Doctor      cli.Doctor       `cmd:"" help:"Look for what is wrong with the settings, Postgres, Temporal and outbound access, and say how to mend it."`
	Healthcheck cli.Healthcheck  `cmd:"" help:"Ask the process on this machine whether it is ready, for supervisors."`
	Version     kong.VersionFlag `help:"Print the version."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c commands
	parser := newParser(&c)
	command, err := parser.Parse(os.Args[1:])
	parser.FatalIfErrorf(err)
	command.BindTo(ctx, (*context.Context)(nil))
	command.FatalIfErrorf(command.Run())
}

func newParser(c *commands) *kong.Kong {
	return kong.Must(c,
		kong.Name("mathub-webhooks"),
		kong.Description("The webhook delivery service of Mathub. Every flag can be set by the environment variable named beside it."),
		flagDefaults(),
		kong.UsageOnError(),
		kong.Exit(cli.Exit),
		kong.BindToProvider(program),
	)
}

// program tells the doctor what only main knows.
func program() (cli.Program, error) {
	var c commands
	parser := newParser(&c)
	return cli.Program{
		Variables: variables(parser.Model.Node),
		CheckSettings: func() error {
			if _, err := parser.Parse([]string{"serve"}); err != nil {
				return err
			}
			return checkSettings(c.Serve.commonFlags, &c.Serve.apiFlags, &c.Serve.workerFlags)
		},
		TemporalOptions: temporalOptions,
		EgressOptions:   func() (egress.Options, error) { return egressOptions(c.Serve.commonFlags, &c.Serve.apiFlags) },
	}, nil
}

// variables are those of the environment that the flags of a command and of its subcommands read.
func variables(command *kong.Node) (names []string) {
	for _, flag := range command.Flags {
		names = append(names, flag.Envs...)
	}
	for _, child := range command.Children {
		names = append(names, variables(child)...)
	}
	return names
}

// flagDefaults are what the flags' tags refer to.
func flagDefaults() kong.Vars {
	return kong.Vars{"version": buildVersion(), "schedule": webhook.DefaultSchedule.String(), "unverified": webhook.DefaultUnverifiedRate.String(), "retention": webhook.DefaultRetention.String(), "most": fmt.Sprint(webhook.MaxWebhooksPerBot), "budget": fmt.Sprint(history.DefaultBudgetMiB), "rows": fmt.Sprint(history.DefaultBudgetRows), "checkhosts": strings.Join(egress.DefaultCheckHosts, ",")}
}

func buildVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && version == "dev" && strings.HasPrefix(info.Main.Version, "v") {
		return info.Main.Version[1:]
	}
	return version
}

type logFlags struct {
	LogLevel  slog.Level `env:"MATHUB_LOG_LEVEL" default:"info" help:"The least level logged: debug, info, warn or error."`
	LogFormat string     `env:"MATHUB_LOG_FORMAT" default:"text" enum:"text,json" help:"How log lines are written: text or json."`
}

func (f logFlags) logger() *slog.Logger {
	options := &slog.HandlerOptions{Level: f.LogLevel}
	if f.LogFormat == "json" {
		return slog.New(telemetry.LimitLines(telemetry.WithTraceIDs(slog.NewJSONHandler(os.Stderr, options))))
	}
	return slog.New(telemetry.LimitLines(telemetry.WithTraceIDs(slog.NewTextHandler(os.Stderr, options))))
}

type apiFlags struct {
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

type workerFlags struct {
	HistoryBudget  int64            `env:"MATHUB_HISTORY_BUDGET" default:"${budget}" help:"How many MiB the deliveries of a bot may take; 0: any number."`
	HistoryRows    int64            `env:"MATHUB_HISTORY_ROWS" default:"${rows}" help:"How many deliveries of a bot are kept; 0: any number."`
	UnverifiedRate webhook.Rate     `env:"MATHUB_UNVERIFIED_RATE" default:"${unverified}" help:"How many deliveries at once, and a second (/s), minute (/m) or hour (/h) from then on, one bot may send to one host and port that has not agreed to it; off: any number."`
	RetrySchedule  webhook.Schedule `env:"MATHUB_RETRY_SCHEDULE" default:"${schedule}" help:"When a failed delivery is attempted again, such as 30s,2m; empty: never."`
	TraceReceivers bool             `env:"MATHUB_TRACE_RECEIVERS" help:"Send receivers a traceparent header (W3C Trace Context), where traces are sent to a collector."`
}

// elsewhereFlags name what a worker does not serve, and sends nothing to.
type elsewhereFlags struct {
	Addr         string `env:"MATHUB_ADDR" default:"127.0.0.1:8080" help:"Where the API listens, if on this machine: no webhook may lead there."`
	InternalAddr string `env:"MATHUB_INTERNAL_ADDR" help:"Where the service API listens, likewise."`
	TemporalUI   string `name:"temporal-ui" env:"MATHUB_TEMPORAL_UI" help:"Where Temporal's Web UI is: no webhook may lead there."`
}

type adminFlags struct {
	AdminAddr string `env:"MATHUB_ADMIN_ADDR" help:"Where health, metrics and profiles can be read, such as 127.0.0.1:6060: nothing for strangers. Off when empty."`
}

type retentionFlags struct {
	Retention webhook.Retention `env:"MATHUB_RETENTION" default:"${retention}" help:"How long events and deliveries are kept, such as 30d or 720h; 0: for ever."`
}

type verificationFlags struct {
	VerifyEndpoints webhook.Verification `env:"MATHUB_VERIFY_ENDPOINTS" default:"optional" help:"What is asked of new endpoints. optional: whether they want deliveries; one that does not agree gets them at MATHUB_UNVERIFIED_RATE. require: it gets none. off: nothing, unless its bot wants to."`
}

type commonFlags struct {
	verificationFlags
	cli.DatabaseFlags
	cli.KeysetFlags
	retentionFlags
	egressFlags
	logFlags
	adminFlags

	elsewhere elsewhereFlags // set by the command
}

type serveCommand struct {
	commonFlags
	apiFlags
	workerFlags
}

func (c *serveCommand) Run(ctx context.Context) error {
	return run(ctx, c.commonFlags, &c.apiFlags, &c.workerFlags)
}

type apiCommand struct {
	commonFlags
	apiFlags
}

func (c *apiCommand) Run(ctx context.Context) error { return run(ctx, c.commonFlags, &c.apiFlags, nil) }

type workerCommand struct {
	commonFlags
	workerFlags
	elsewhereFlags
}

func (c *workerCommand) Run(ctx context.Context) error {
	c.elsewhere = c.elsewhereFlags
	return run(ctx, c.commonFlags, nil, &c.workerFlags)
}

// maxBudgetMiB is what int64 has room for as bytes.
const maxBudgetMiB = math.MaxInt64 >> 20

// checkSettings finds what is wrong with settings that can be read, by themselves and together.
func checkSettings(common commonFlags, serveAPI *apiFlags, runWorker *workerFlags) error {
	if serveAPI != nil && serveAPI.MaxWebhooksPerBot < 1 {
		return fmt.Errorf("MATHUB_MAX_WEBHOOKS_PER_BOT is %d: it must be at least 1", serveAPI.MaxWebhooksPerBot)
	}
	if serveAPI != nil && serveAPI.InternalAddr == serveAPI.Addr {
		return fmt.Errorf("MATHUB_INTERNAL_ADDR is %q, as MATHUB_ADDR is: it must be another address, or empty", serveAPI.Addr)
	}
	if serveAPI != nil && serveAPI.RateLimit < 0 {
		return fmt.Errorf("MATHUB_RATE_LIMIT is %d: it must be 0, for none, or more", serveAPI.RateLimit)
	}
	if serveAPI != nil && serveAPI.TemporalUI != "" {
		if ui, err := url.Parse(serveAPI.TemporalUI); err != nil || ui.Scheme != "http" && ui.Scheme != "https" || ui.Host == "" {
			return fmt.Errorf("MATHUB_TEMPORAL_UI is %q: it must be an http or https URL, such as http://127.0.0.1:8233", serveAPI.TemporalUI)
		}
	}
	if serveAPI != nil && (serveAPI.EmitStarts < 1 || serveAPI.EmitStarts > 1000) {
		return fmt.Errorf("MATHUB_EMIT_STARTS is %d: it must be 1 to 1000", serveAPI.EmitStarts)
	}
	if serveAPI != nil && (serveAPI.EmitGroup < 1 || serveAPI.EmitGroup > webhook.MaxBatchEvents) {
		return fmt.Errorf("MATHUB_EMIT_GROUP is %d: it must be 1 to %d", serveAPI.EmitGroup, webhook.MaxBatchEvents)
	}
	if _, err := egressOptions(common, serveAPI); err != nil {
		return err
	}
	if runWorker != nil && (runWorker.HistoryBudget < 0 || runWorker.HistoryBudget > maxBudgetMiB) {
		return fmt.Errorf("MATHUB_HISTORY_BUDGET is %d: it must be 0, for any number, or up to %d MiB", runWorker.HistoryBudget, maxBudgetMiB)
	}
	if runWorker != nil && runWorker.HistoryRows < 0 {
		return fmt.Errorf("MATHUB_HISTORY_ROWS is %d: it must be 0, for any number, or more", runWorker.HistoryRows)
	}
	if runWorker != nil {
		if err := common.Retention.Fits(runWorker.RetrySchedule); err != nil {
			return fmt.Errorf("MATHUB_RETENTION: %w", err)
		}
	}
	return nil
}

// run wires the parts, starts those whose flags are given, and stops them when ctx ends: first what takes new work,
// then what has some under way, then what both stand on.
func run(ctx context.Context, common commonFlags, serveAPI *apiFlags, runWorker *workerFlags) error {
	log := common.logger()
	slog.SetDefault(log)
	keyset, err := db.ParseKeyset(common.Keyset)
	if err != nil {
		return fmt.Errorf("MATHUB_KEYSET: %w", err)
	}
	if err := db.CheckURL(common.DatabaseURL); err != nil {
		return fmt.Errorf("MATHUB_DATABASE_URL: %w", err)
	}
	if err := checkSettings(common, serveAPI, runWorker); err != nil {
		return err
	}
	if serveAPI != nil {
		// A port in use is said before a worker has taken anything. The listener itself comes last: who connects before
		// there is an answer is better refused.
		for variable, addr := range serveAPI.addrs() {
			if err := listen.Check(ctx, variable, addr); err != nil {
				return err
			}
		}
	}
	traces, err := telemetry.NewTraces(ctx, buildVersion(), log)
	if err != nil {
		return err
	}
	defer traces.Close()
	var readiness api.Readiness
	var metrics *telemetry.Metrics
	if common.AdminAddr != "" {
		if metrics, err = telemetry.NewMetrics(buildVersion(), log); err != nil {
			return err
		}
		stop, err := listen.Admin(ctx, log, "MATHUB_ADMIN_ADDR", common.AdminAddr, refuseDeliveries(readiness.Beside(telemetry.Admin(metrics))))
		if err != nil {
			return err
		}
		defer stop()
	}
	var pool *pgxpool.Pool
	err = await(ctx, log, "Postgres", func() (err error) {
		if pool == nil {
			if pool, err = db.Open(ctx, common.DatabaseURL); err != nil {
				return err
			}
		}
		return db.CheckSchema(ctx, pool)
	})
	if pool != nil {
		defer pool.Close()
	}
	if err != nil {
		return err
	}
	db.Measure(metrics.Meter(), pool)
	temporalClient, namespace, err := newTemporalClient(log, metrics, traces)
	if err != nil {
		return err
	}
	defer temporalClient.Close()
	attributes := new(visibility.Attributes)
	keeping, stopKeeping := context.WithCancel(ctx)
	var keeper sync.WaitGroup
	keeper.Go(func() { attributes.Keep(keeping, log, temporalClient, namespace) })
	defer keeper.Wait()
	defer stopKeeping()
	writes := db.NewWriteCheck(pool)
	ready := func(ctx context.Context) error {
		_, err := api.Ready(ctx, writes, temporalClient)
		return err
	}

	var access func(context.Context) egress.Access
	var progress *emit.Progress
	if runWorker != nil {
		options, err := egressOptions(common, serveAPI)
		if err != nil {
			return err
		}
		options.Meter = metrics.Meter()
		outbound := egress.New(options)
		access, progress = outbound.OutboundAccess, emit.NewProgress()
		w, err := worker.New(temporalClient, delivery.Config{
			Pool:       pool,
			Egress:     outbound,
			Keyset:     keyset,
			Schedule:   runWorker.RetrySchedule,
			Retention:  common.Retention,
			Unverified: runWorker.UnverifiedRate, Verification: common.VerifyEndpoints,
			Attributes: attributes,
			Version:    buildVersion(),
			Logger:     log,
			Meter:      metrics.Meter(),
			Tracer:     traces.Tracer(),

			TraceReceivers: runWorker.TraceReceivers,
			Begun:          progress.Begun,
		})
		if err != nil {
			return err
		}
		progress.Behind = w.Behind
		defer w.Stop()
		if err := await(ctx, log, "Temporal", w.Start); err != nil {
			return err
		}
		worker.MeasureBacklog(metrics.Meter(), pool, log)
		worker.MeasureStuck(metrics.Meter(), temporalClient, log)
		log.Info("worker is running")
		var upkeep sync.WaitGroup
		upkeep.Go(func() { reseal(ctx, log, pool, keyset) })
		budget := &history.Budget{Pool: pool, Bytes: runWorker.HistoryBudget << 20, Deliveries: runWorker.HistoryRows, Log: log}
		upkeep.Go(func() { budget.Run(ctx) })
		upkeep.Go(func() { scheduleRemoval(ctx, log, temporalClient, common.Retention) })
		defer upkeep.Wait()
		stands := ready
		ready = func(ctx context.Context) error { return errors.Join(stands(ctx), w.Polling(ctx)) }
	}
	readiness.When(ready, access)
	if serveAPI == nil {
		<-ctx.Done()
		return nil
	}
	return serveAPI.listen(ctx, log, api.Config{
		Pool:              pool,
		Temporal:          temporalClient,
		Attributes:        attributes,
		Keyset:            keyset,
		ServiceToken:      serveAPI.ServiceToken,
		URLRules:          common.Rules(),
		MaxWebhooksPerBot: serveAPI.MaxWebhooksPerBot,
		RateLimit:         serveAPI.RateLimit,
		EmitStarts:        serveAPI.EmitStarts,
		EmitGroup:         serveAPI.EmitGroup,
		Progress:          progress,
		Retention:         common.Retention,
		Verification:      common.VerifyEndpoints,
		TrustedProxies:    serveAPI.TrustedProxies,
		TemporalUI:        serveAPI.TemporalUI,
		Namespace:         namespace,
		Stopping:          ctx.Done(),
		Logger:            log,
		Version:           buildVersion(),
		Meter:             metrics.Meter(),
		Tracer:            traces.Tracer(),
		OutboundAccess:    access,
	})
}

// addrs are where the API listens, by the variable that says so.
func (f *apiFlags) addrs() map[string]string {
	addrs := map[string]string{"MATHUB_ADDR": f.Addr}
	if f.InternalAddr != "" {
		addrs["MATHUB_INTERNAL_ADDR"] = f.InternalAddr
	}
	return addrs
}

// listen serves the API until ctx ends: at one address, or the service API at its own.
func (f *apiFlags) listen(ctx context.Context, log *slog.Logger, cfg api.Config) error {
	public := listen.Server{Name: "API", Variable: "MATHUB_ADDR", Addr: f.Addr, Trusted: f.TrustedProxies}
	if f.InternalAddr == "" {
		var err error
		if public.Handler, err = api.New(cfg); err != nil {
			return err
		}
		public.Handler = refuseDeliveries(public.Handler)
		return listen.Run(ctx, log, public)
	}
	internal := listen.Server{Name: "service API", Variable: "MATHUB_INTERNAL_ADDR", Addr: f.InternalAddr, Trusted: f.TrustedProxies}
	var err error
	if public.Handler, internal.Handler, err = api.NewSplit(cfg); err != nil {
		return err
	}
	public.Handler, internal.Handler = refuseDeliveries(public.Handler), refuseDeliveries(internal.Handler)
	return listen.Run(ctx, log, public, internal)
}

// reseal keeps all URLs and secrets sealed with the keyset's newest key, and forgets those whose overlap is over: now, and
// every hour, as other processes may still have an older keyset.
func reseal(ctx context.Context, log *slog.Logger, pool *pgxpool.Pool, keyset *db.Keyset) {
	for {
		changed, err := db.Reseal(ctx, pool, keyset)
		if changed > 0 {
			log.Info("URLs and secrets are encrypted with the newest key", "webhooks", changed)
		}
		wait := time.Hour
		if err != nil && ctx.Err() == nil {
			log.Error("URLs and secrets wait to be encrypted with the newest key", "error", err)
			if !errors.Is(err, db.ErrDoesNotOpen) {
				wait = time.Minute
			}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// scheduleRemoval sets how long everything is kept; in a deployment the worker that starts last decides.
func scheduleRemoval(ctx context.Context, log *slog.Logger, c client.Client, retention webhook.Retention) {
	for {
		err := workflows.ScheduleRemoval(ctx, c, retention)
		if err == nil || ctx.Err() != nil {
			return
		}
		log.Warn("what is over age is not removed yet", "error", err)
		select {
		case <-time.After(time.Minute):
		case <-ctx.Done():
			return
		}
	}
}

// await tries f until it succeeds, for a minute: in a deployment, what it stands on may still be starting.
func await(ctx context.Context, log *slog.Logger, what string, f func() error) error {
	for deadline := time.Now().Add(time.Minute); ; {
		err := f()
		if err == nil || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
		log.Warn("waiting for "+what, "error", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return err
		}
	}
}

// newTemporalClient reads TEMPORAL_ADDRESS and its like as every Temporal tool does, and returns the namespace as well. It
// connects when first used.
func newTemporalClient(log *slog.Logger, metrics *telemetry.Metrics, traces *telemetry.Traces) (c client.Client, namespace string, err error) {
	options, err := temporalOptions()
	if err != nil {
		return nil, "", err
	}
	options.Logger = temporallog.NewStructuredLogger(log)
	options.MetricsHandler = metrics.Temporal()
	if options.Interceptors, err = traces.Temporal(); err != nil {
		return nil, "", err
	}
	// Compressing took 8 % of a worker's CPU time in a profile of a burst, and the network to Temporal is near.
	options.ConnectionOptions.GrpcCompression = &client.GrpcCompressionNone{}
	if options.Namespace == "" {
		options.Namespace = client.DefaultNamespace
	}
	c, err = client.NewLazyClient(options)
	return c, options.Namespace, err
}

func temporalOptions() (client.Options, error) {
	options, err := envconfig.LoadDefaultClientOptions()
	if err != nil {
		return options, fmt.Errorf("environment configuration of Temporal: %w", err)
	}
	if options.HostPort == "" {
		options.HostPort = "127.0.0.1:7233"
	}
	return options, nil
}
