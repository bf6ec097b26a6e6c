// Package server is the Temporal server's process, which package temporal starts. It stands apart because linking it takes several
// times as long as linking all the rest.
package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	"go.temporal.io/server/common/headers"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/metrics"
	"go.temporal.io/server/common/persistence/sql/sqlplugin/postgresql"
	engine "go.temporal.io/server/temporal"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mathub/webhooks/standalone/temporal"
)

// slowTaskQueue is the product's workflows.SlowTaskQueue, which stands in a package that draws in the whole product.
const slowTaskQueue = "mathub-webhooks-slow"

// startTimeout bounds the wait for a database that is starting as well, and for the server's own start.
const startTimeout = time.Minute

// process is the server's.
type process struct{ temporal.Settings }

// RunChild is the server's process, from settings to end. It returns when SIGTERM or SIGINT has stopped it.
func RunChild() error {
	settings, err := temporal.ChildSettings()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return Run(ctx, settings)
}

// Run runs a server in this process until ctx ends. There can be one a process.
func Run(ctx context.Context, settings temporal.Settings) error {
	p := process{settings}
	level := p.LogLevel
	if level == "" {
		level = "warn"
	}
	// A line an error: each names the place that it comes from, and stacks would bury them.
	noStacks := zap.AddStacktrace(zap.LevelEnablerFunc(func(zapcore.Level) bool { return false }))
	logger := log.NewZapLogger(log.BuildZapLogger(log.Config{Level: level, Format: "console"}).WithOptions(noStacks))
	cfg, err := p.config()
	if err != nil {
		return err
	}
	if p.SchemaOnly || !p.IsMember() {
		stores := cfg.Persistence.DataStores
		if err := migrateAll(*stores[mainStore].SQL, *stores[visibilityStore].SQL, p.StockConfig, logger); err != nil || p.SchemaOnly {
			return err
		}
	}
	worker.SetBinaryChecksum(headers.ServerVersion) // else the SDK of the server's own workers reads the whole program for a sum of it
	server, err := engine.NewServer(append(p.membership(cfg),
		engine.WithConfig(cfg),
		engine.WithLogger(logger),
		engine.WithAuthorizer(authorization.NewNoopAuthorizer()),
		engine.WithDynamicConfigClient(p.dynamicConfig()),
	)...)
	if err != nil {
		return fmt.Errorf("Temporal: %w", err) //nolint:staticcheck // a name
	}
	if err := server.Start(); err != nil {
		return fmt.Errorf("start Temporal: %w", err)
	}
	if frontend := p.frontend(); frontend != "" {
		if err := registerNamespaces(ctx, frontend); err != nil && ctx.Err() == nil {
			return errors.Join(err, server.Stop())
		}
	}
	<-ctx.Done()
	return server.Stop()
}

func (p process) config() (*config.Config, error) {
	stores, err := p.stores()
	if err != nil {
		return nil, err
	}
	services, err := p.services()
	if err != nil {
		return nil, err
	}
	shards := p.HistoryShards
	if shards == 0 {
		shards = temporal.DefaultHistoryShards
	}
	cfg := &config.Config{
		Global: config.Global{
			Membership: config.Membership{MaxJoinDuration: startTimeout, BroadcastAddress: cmp.Or(p.Host, "127.0.0.1")},
			PProf:      config.PProf{Port: p.ProfilePort, Host: "127.0.0.1"},
		},
		Persistence: config.Persistence{
			DefaultStore:     mainStore,
			VisibilityStore:  visibilityStore,
			NumHistoryShards: shards,
			DataStores:       stores,
		},
		ClusterMetadata: &cluster.Config{
			FailoverVersionIncrement: 10,
			MasterClusterName:        "active",
			CurrentClusterName:       "active",
			ClusterInformation: map[string]cluster.ClusterInformation{
				"active": {Enabled: true, InitialFailoverVersion: 1, RPCAddress: p.Addr()},
			},
		},
		DCRedirectionPolicy: config.DCRedirectionPolicy{Policy: "noop"},
		Services:            services,
		PublicClient:        p.publicClient(),
		Archival: config.Archival{
			History:    config.HistoryArchival{State: "disabled"},
			Visibility: config.VisibilityArchival{State: "disabled"},
		},
		NamespaceDefaults: config.NamespaceDefaults{Archival: config.ArchivalNamespaceDefaults{
			History:    config.HistoryArchivalNamespaceDefaults{State: "disabled"},
			Visibility: config.VisibilityArchivalNamespaceDefaults{State: "disabled"},
		}},
	}
	if p.MetricsAddr != "" {
		cfg.Global.Metrics = &metrics.Config{Prometheus: &metrics.PrometheusConfig{
			ListenAddress: p.MetricsAddr, HandlerPath: "/metrics",
		}}
	}
	return cfg, nil
}

const mainStore, visibilityStore = "main", "visibility"

// stores are the two databases, each with a pool for each of the four services.
func (p process) stores() (map[string]config.DataStore, error) {
	addr, user, password, attributes, err := p.postgres()
	if err != nil {
		return nil, err
	}
	connections, visibilityConnections := 20, 4
	if p.StockConfig {
		connections, visibilityConnections = 20, 2 // as in Temporal's own development configuration
	}
	database := func(name string, connections int) config.DataStore {
		return config.DataStore{SQL: &config.SQL{
			PluginName:      postgresql.PluginNamePGX,
			DatabaseName:    name,
			ConnectAddr:     addr,
			ConnectProtocol: "tcp",
			User:            user,
			Password:        password,
			MaxConns:        connections,
			MaxIdleConns:    connections,
			MaxConnLifetime: time.Hour,

			ConnectAttributes: attributes,
		}}
	}
	main := database(temporal.Database, connections)
	if p.FaultRate > 0 {
		main.FaultInjection = faults(p.FaultRate)
	}
	return map[string]config.DataStore{mainStore: main, visibilityStore: database(temporal.VisibilityDatabase, visibilityConnections)}, nil
}

// faults are Temporal's own default faults, each at rate.
func faults(rate float64) *config.FaultInjection {
	injection := config.DefaultFaultInjection()
	for _, store := range injection.Targets.DataStores {
		for _, method := range store.Methods {
			for name := range method.Errors {
				method.Errors[name] = rate
			}
		}
	}
	return injection
}

func (p process) dynamicConfig() dynamicconfig.StaticClient {
	partitions := []dynamicconfig.ConstrainedValue{
		// Fairness holds within a partition.
		{Constraints: dynamicconfig.Constraints{TaskQueueName: slowTaskQueue}, Value: 1},
		{Value: 4},
	}
	values := dynamicconfig.StaticClient{
		dynamicconfig.MatchingEnableFairness.Key():              true,
		dynamicconfig.MatchingNumTaskqueueReadPartitions.Key():  partitions,
		dynamicconfig.MatchingNumTaskqueueWritePartitions.Key(): partitions,
		dynamicconfig.EnableEagerWorkflowStart.Key():            true,
		// A worker that stops gives back what it was about to get; else that waits for its timeout of ten seconds.
		dynamicconfig.EnableCancelWorkerPollsOnShutdown.Key(): true,
	}
	if !p.StockConfig {
		maps.Copy(values, dynamicconfig.StaticClient{
			// Limits that protect a shared cluster from its tenants; here there is one tenant, and Postgres is the limit.
			dynamicconfig.FrontendRPS.Key():                                  100_000,
			dynamicconfig.FrontendMaxNamespaceRPSPerInstance.Key():           100_000,
			dynamicconfig.FrontendMaxNamespaceVisibilityRPSPerInstance.Key(): 1_000,
			dynamicconfig.FrontendPersistenceMaxQPS.Key():                    100_000,
			dynamicconfig.HistoryPersistenceMaxQPS.Key():                     100_000,
			dynamicconfig.MatchingPersistenceMaxQPS.Key():                    100_000,
			// Lists are brought up to date in steps, at most twice a second a shard. Most workflows of a busy time end
			// within one, and are written to the list once instead of twice.
			dynamicconfig.VisibilityProcessorMaxPollRPS.Key(): 2,
			dynamicconfig.VisibilityTaskBatchSize.Key():       1000,
			// Nearly all workflows end within a second, and nobody asks for them again. Temporal's own caches grow by the
			// gigabyte.
			dynamicconfig.HistoryCacheHostLevelMaxSize.Key():     1000,
			dynamicconfig.HistoryCacheTTL.Key():                  "30s",
			dynamicconfig.EventsHostLevelCacheMaxSizeBytes.Key(): 16 << 20,
		})
	}
	if p.IsMember() {
		values[dynamicconfig.EnableInternodeServerKeepAlive.Key()] = true // see keepAlive
		values[dynamicconfig.EnableInternodeClientKeepAlive.Key()] = true
	}
	for key, value := range p.DynamicConfig {
		if number, ok := value.(float64); ok && number == math.Trunc(number) {
			value = int(number) // as it was before it travelled as JSON: Temporal ignores a setting of another type
		}
		values[dynamicconfig.MakeKey(key)] = value
	}
	return values
}

// registerNamespaces makes the product's namespace and the watchdog's, once.
func registerNamespaces(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	namespaces, err := client.NewNamespaceClient(client.Options{HostPort: addr, Logger: sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler))})
	if err != nil {
		return fmt.Errorf("Temporal's namespaces: %w", err) //nolint:staticcheck // a name
	}
	defer namespaces.Close()
	for name, retention := range map[string]time.Duration{temporal.Namespace: temporal.Retention, temporal.ProbeNamespace: temporal.ProbeRetention} {
		for {
			err := namespaces.Register(ctx, &workflowservice.RegisterNamespaceRequest{
				Namespace: name, WorkflowExecutionRetentionPeriod: durationpb.New(retention),
			})
			var known *serviceerror.NamespaceAlreadyExists
			if err == nil || errors.As(err, &known) {
				break
			}
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("register namespace %s: %w", name, err)
			}
		}
	}
	return nil
}

// postgres splits PostgresURL as Temporal wants it. attributes has the socket's folder as host, where the URL has one.
func (p process) postgres() (addr, user, password string, attributes map[string]string, err error) {
	u, err := url.Parse(p.PostgresURL)
	if err != nil || u.User == nil || u.Port() == "" {
		return "", "", "", nil, errors.New("Temporal's Postgres URL must name user, password, host and port") //nolint:staticcheck // a name
	}
	password, _ = u.User.Password()
	if len(p.PostgresHosts) > 0 {
		attributes = map[string]string{"target_session_attrs": "read-write", "connect_timeout": "3"}
		return strings.Join(p.PostgresHosts, ","), u.User.Username(), password, attributes, nil
	}
	if socket := u.Query().Get("host"); socket != "" {
		attributes = map[string]string{"host": socket}
	}
	return u.Host, u.User.Username(), password, attributes, nil
}
