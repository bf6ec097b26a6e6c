// Package cluster runs the product as docs/deploying.md lays it out on several machines, on hosts of package hosts: a load
// balancer before several APIs and Temporal's frontends, workers, Temporal as a process a service, and a Postgres primary with
// a synchronous standby. Every host can be killed, cut off, slowed and started again. It needs root on Linux, Postgres's
// programs and HAProxy.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/mathub/webhooks/standalone/datadir"
	"github.com/mathub/webhooks/standalone/hosts"
)

// Options say what is started.
type Options struct {
	// Dir gets the data and logs. It is the caller's to make and to remove.
	Dir string
	// Layout is how many hosts there are.
	Layout Layout
	// Binary is the product.
	Binary string
	// Roles is the SQL that makes the product's roles in Postgres: what db/roles.sql says.
	Roles string
	// HAProxy is its program; found on PATH or in /usr/sbin when empty.
	HAProxy string
	// Standalone is the standalone program, which becomes Temporal's services; this one when empty, see temporal.Settings.Command.
	Standalone string
	// Env are variables of the product's processes, over those of Cluster.Environment.
	Env map[string]string
	// Begin and Say tell people of each step of the start, and of programs that end and come back; may be nil.
	Begin func(step string) (ended func())
	Say   func(line string)
}

// Cluster is a running one. Its methods are for one goroutine, but for those of Network, Outside and Client.
type Cluster struct {
	Network *hosts.Network
	// Outside is the host of all that is no part of the cluster.
	Outside *hosts.Host

	Balancer                                         *Node
	APIs, Workers                                    []*Node
	Frontends, Histories, Matchings, TemporalWorkers []*Node
	// Primary and Standby are Postgres's; Standby is nil after Promote, until AddStandby.
	Primary, Standby *Server

	// Client is an HTTP client outside of the cluster.
	Client *http.Client
	// ServiceToken is the service API's.
	ServiceToken string

	options   Options
	keyset    string
	passwords struct{ superuser, owner, app, temporal string }
	servers   [2]*Server
	nodes     []*Node // in the order in which they were added
	logs      map[string]*os.File
}

// Start starts everything and waits until it works. After an error nothing is left running.
func Start(ctx context.Context, options Options) (_ *Cluster, err error) {
	if err := options.Layout.check(); err != nil {
		return nil, err
	}
	if options.HAProxy, err = findBalancer(options.HAProxy); err != nil {
		return nil, err
	}
	c := &Cluster{options: options, logs: map[string]*os.File{}, ServiceToken: datadir.Token()}
	c.passwords.superuser, c.passwords.owner, c.passwords.app, c.passwords.temporal = datadir.Token(), datadir.Token(), datadir.Token(), datadir.Token()
	if c.Network, err = hosts.New(network); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Stop())
		}
	}()
	if err := c.addHosts(); err != nil {
		return nil, err
	}
	for _, step := range []struct {
		name  string
		start func(context.Context) error
	}{
		{"Load balancer", c.Balancer.Start},
		{"Postgres, a primary and a synchronous standby", c.startPostgres},
		{"Temporal, a process a service", c.startTemporal},
		{"APIs and workers", c.startProduct},
	} {
		ended := c.begin(step.name)
		if err := step.start(ctx); err != nil {
			return nil, err
		}
		ended()
	}
	return c, nil
}

// addHosts makes all hosts and connects them.
func (c *Cluster) addHosts() (err error) {
	if c.Outside, err = c.Network.Add("outside", outsideAddress); err != nil {
		return err
	}
	c.Client = &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{DialContext: c.Outside.DialContext, MaxIdleConnsPerHost: 256, IdleConnTimeout: 30 * time.Second},
	}
	for _, add := range []func() error{c.addPostgres, c.addBalancer, c.addTemporal, c.addProduct, c.writeBalancer} {
		if err := add(); err != nil {
			return err
		}
	}
	return nil
}

// Stop ends everything at once: nothing it holds will be needed.
func (c *Cluster) Stop() error {
	for _, n := range c.nodes {
		n.Kill()
	}
	if c.Client != nil {
		c.Client.CloseIdleConnections()
	}
	errs := []error{c.closePostgres(), c.Network.Close()}
	for _, log := range c.logs {
		errs = append(errs, log.Close())
	}
	return errors.Join(errs...)
}

// Nodes are all hosts that run a program.
func (c *Cluster) Nodes() []*Node { return c.nodes }

// Heal ends all faults of the network.
func (c *Cluster) Heal() {
	for _, n := range c.nodes {
		c.Network.SetAround(n.Host, hosts.Link{})
	}
}

func (c *Cluster) begin(step string) (ended func()) {
	if c.options.Begin == nil {
		return func() {}
	}
	return c.options.Begin(step)
}

func (c *Cluster) say(line string) {
	if c.options.Say != nil {
		c.options.Say(line)
	}
}

// log is the log of a host, or of another name; it is opened once.
func (c *Cluster) log(name string) (*os.File, error) {
	if log := c.logs[name]; log != nil {
		return log, nil
	}
	log, err := os.OpenFile(filepath.Join(c.options.Dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // the caller's folder
	if err != nil {
		return nil, fmt.Errorf("the log of %s: %w", name, err)
	}
	c.logs[name] = log
	return log, nil
}

// startAll starts all nodes at once, and waits for all.
func startAll(ctx context.Context, kinds ...[]*Node) error {
	var mu sync.Mutex
	var errs []error
	var starting sync.WaitGroup
	for _, nodes := range kinds {
		for _, n := range nodes {
			starting.Go(func() {
				if err := n.Start(ctx); err != nil {
					mu.Lock()
					defer mu.Unlock()
					errs = append(errs, err)
				}
			})
		}
	}
	starting.Wait()
	return errors.Join(errs...)
}
