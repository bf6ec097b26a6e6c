package cluster

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"time"

	"google.golang.org/grpc"

	"github.com/mathub/webhooks/standalone/hosts"
	"github.com/mathub/webhooks/standalone/supervise"
	"github.com/mathub/webhooks/standalone/temporal"
)

const temporalGrace = 20 * time.Second

// addTemporal adds the hosts of Temporal's services.
func (c *Cluster) addTemporal() (err error) {
	for _, kind := range []struct {
		nodes   *[]*Node
		many    int
		service string
		first   int
		port    int // where it listens for the others; 0: nowhere
	}{
		{&c.Frontends, c.options.Layout.Frontends, temporal.Frontend, frontendHosts, temporal.FrontendPort},
		{&c.Histories, c.options.Layout.Histories, temporal.History, historyHosts, 7234},
		{&c.Matchings, c.options.Layout.Matchings, temporal.Matching, matchingHosts, 7235},
		{&c.TemporalWorkers, c.options.Layout.TemporalWorkers, temporal.Worker, temporalWorkerHosts, 0},
	} {
		*kind.nodes, err = c.nodesOf(kind.many, "temporal-"+kind.service, kind.first, func(h *hosts.Host) program {
			return program{
				command: func(_ *Node, log *os.File) (*exec.Cmd, error) {
					return c.temporalSettings(h, kind.service).Command(log, c.options.Standalone)
				},
				ready: c.listens(h, kind.port),
				stop:  temporal.StopSignal,
				grace: temporalGrace,
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) temporalSettings(h *hosts.Host, services ...string) temporal.Settings {
	return temporal.Settings{
		PostgresURL:   "postgres://temporal:" + c.passwords.temporal + "@" + c.servers[0].At(postgresPort),
		PostgresHosts: []string{c.servers[0].At(postgresPort), c.servers[1].At(postgresPort)},
		Host:          h.Address.String(),
		Services:      services,
		FrontendAddr:  c.TemporalAddr(),
		HistoryShards: c.options.Layout.HistoryShards,
	}
}

// TemporalAddr is where clients in the cluster's network find Temporal: at the load balancer.
func (c *Cluster) TemporalAddr() string { return c.Balancer.At(temporalPort) }

// startTemporal makes Temporal's tables, starts all services and waits until they run workflows.
func (c *Cluster) startTemporal(ctx context.Context) error {
	settings := c.temporalSettings(c.Frontends[0].Host, temporal.Frontend)
	settings.SchemaOnly = true
	log := c.logs[c.Frontends[0].Name]
	cmd, err := settings.Command(log, c.options.Standalone)
	if err != nil {
		return err
	}
	if err := c.complete(ctx, c.Frontends[0].Host, "Temporal's schema", cmd); err != nil {
		return fmt.Errorf("%w: see %s", err, log.Name())
	}
	// The first process of all writes what the cluster is; of several at once, all but one would end.
	first, others := c.Histories[0], c.Histories[1:]
	if err := first.Start(ctx); err != nil {
		return err
	}
	if err := startAll(ctx, c.Frontends, others, c.Matchings, c.TemporalWorkers); err != nil {
		return err
	}
	return temporal.AwaitReady(ctx, c.TemporalAddr(), nil, c.DialTemporal())
}

// DialTemporal is how a client of Temporal connects from outside of the cluster.
func (c *Cluster) DialTemporal() grpc.DialOption {
	return grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		return c.Outside.DialContext(ctx, "tcp", address)
	})
}

// listens waits until a host takes connections on a port.
func (c *Cluster) listens(h *hosts.Host, port int) func(context.Context, <-chan struct{}) error {
	if port == 0 {
		return func(context.Context, <-chan struct{}) error { return nil }
	}
	return func(ctx context.Context, ended <-chan struct{}) error {
		return supervise.AwaitReady(ctx, ended, 50*time.Millisecond, "it does not listen", func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			conn, err := c.Outside.DialContext(ctx, "tcp", net.JoinHostPort(h.Address.String(), strconv.Itoa(port)))
			if err != nil {
				return err
			}
			return conn.Close()
		})
	}
}
