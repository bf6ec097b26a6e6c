package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/mathub/webhooks/standalone/cluster"
)

type clusterCommand struct {
	cluster.Layout

	Addr         string `default:"127.0.0.1:8080" help:"Where this machine reaches the API."`
	InternalAddr string `default:"127.0.0.1:8081" help:"Where it reaches the service API."`
	TemporalAddr string `default:"127.0.0.1:7233" help:"Where it reaches Temporal."`
	App          string `type:"path" help:"The mathub-webhooks program. Default: the one beside this program."`
	HAProxy      string `name:"haproxy" type:"path" help:"HAProxy's program. Default: the one on PATH or in /usr/sbin."`
	Roles        string `type:"existingfile" default:"db/roles.sql" help:"The file that makes the product's roles in Postgres."`
}

// Run starts the cluster in a folder of its own, waits for Ctrl-C or SIGTERM, and ends and removes everything.
func (c *clusterCommand) Run() (err error) {
	ctx, _, stopListening := interrupts()
	defer stopListening()
	app := runCommand{App: c.App}
	if err := app.findApp(); err != nil {
		return err
	}
	roles, err := os.ReadFile(c.Roles)
	if err != nil {
		return err
	}
	dir, remove, err := clusterFolder()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()

	go boundLogs(ctx, dir)
	say := newTerminal(os.Stdout)
	say.line("A cluster on hosts of its own, with its data and logs in %s", dir)
	running, err := cluster.Start(ctx, cluster.Options{
		Dir: dir, Layout: c.Layout, Binary: app.App, Roles: string(roles), HAProxy: c.HAProxy,
		Begin: func(step string) func() {
			say.begin(step)
			return say.ready
		},
		Say: func(line string) { say.line("%s %s", time.Now().Format(time.TimeOnly), line) },
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil // interrupted while it started
		}
		return fmt.Errorf("%w\n%s", err, logTails(dir))
	}
	defer func() { err = errors.Join(err, running.Stop()) }()
	for local, to := range map[string]string{
		c.Addr:         strings.TrimPrefix(running.URL(), "http://"),
		c.InternalAddr: strings.TrimPrefix(running.ServiceURL(), "http://"),
		c.TemporalAddr: running.TemporalAddr(),
	} {
		if err := running.Forward(ctx, local, to); err != nil {
			return err
		}
	}
	say.block(c.banner(running))
	<-ctx.Done()
	say.line("")
	say.line("Stopping…")
	return nil
}

// banner says where everything is.
func (c *clusterCommand) banner(running *cluster.Cluster) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n  API          http://%s\n  Service API  http://%s  (token %s)\n  Temporal     %s\n\n", c.Addr, c.InternalAddr, running.ServiceToken, c.TemporalAddr)
	fmt.Fprintf(&b, "  %-20s %-12s %s\n", "host", "address", "a shell there")
	for _, n := range running.Nodes() {
		fmt.Fprintf(&b, "  %-20s %-12s nsenter --net --uts --target %d\n", n.Name, n.Address, n.Process().PID())
	}
	fmt.Fprintf(&b, "\nCtrl-C ends and removes all of it.\n")
	return b.String()
}

// clusterFolder makes a folder for a cluster's data, and removes those that killed runs have left. A run locks its folder.
func clusterFolder() (dir string, remove func() error, err error) {
	const pattern = "mathub-cluster-*"
	left, err := filepath.Glob(filepath.Join(os.TempDir(), pattern))
	if err != nil {
		return "", nil, err
	}
	for _, folder := range left {
		if lock, err := lockFolder(folder); err == nil {
			_ = os.RemoveAll(folder) // another user's stays
			_ = lock.Close()
		}
	}
	if dir, err = os.MkdirTemp("", pattern); err != nil {
		return "", nil, err
	}
	lock, err := lockFolder(dir)
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	return dir, func() error { return errors.Join(os.RemoveAll(dir), lock.Close()) }, nil
}

// lockFolder locks a folder until the file that it returns is closed. It fails where another process has the lock.
func lockFolder(dir string) (*os.File, error) {
	folder, err := os.Open(dir) //nolint:gosec // in the folder for temporary files
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, folder.Close())
	}
	return folder, nil
}
