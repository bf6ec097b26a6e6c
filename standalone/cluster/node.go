package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/mathub/webhooks/standalone/hosts"
	"github.com/mathub/webhooks/standalone/supervise"
)

// Node is a host with the one program that runs there. A program that ends by itself is started again, as an orchestrator
// does; one that was stopped or killed is not. Its methods are for one goroutine.
type Node struct {
	*hosts.Host
	// LogPath is the file with what the program wrote, in all of its lives.
	LogPath string
	// Before is what a shell does before it becomes the program at its next start, such as "ulimit -n 256".
	Before string
	// Binary is the product in place of Options.Binary from its next start on, where the product runs.
	Binary string

	network    *hosts.Network
	supervisor *supervise.Supervisor
}

// program is what runs on a node.
type program struct {
	command func(n *Node, log *os.File) (*exec.Cmd, error)
	ready   func(ctx context.Context, ended <-chan struct{}) error
	stop    syscall.Signal
	grace   time.Duration
	orphan  syscall.Signal // what it gets when this process ends; SIGKILL when zero
}

// Start starts the program, after it was stopped or killed, and waits until it works.
func (n *Node) Start(ctx context.Context) error {
	if err := n.supervisor.Start(ctx); err != nil {
		return fmt.Errorf("start %s: %w: see %s", n.Name, err, n.LogPath)
	}
	return nil
}

// Stop stops the program in order.
func (n *Node) Stop(ctx context.Context) error { return n.supervisor.Stop(ctx) }

// Kill ends the program at once, as a crash would. The host's kernel goes on: it resets the program's connections.
func (n *Node) Kill() { n.supervisor.Kill() }

// PowerOff ends the host without a word to anyone: others learn of it only by hearing nothing. PowerOn is its end.
func (n *Node) PowerOff() {
	n.network.SetAround(n.Host, hosts.Link{Cut: true})
	n.Kill()
}

// PowerOn starts a host again that PowerOff ended, and waits until its program works.
func (n *Node) PowerOn(ctx context.Context) error {
	n.network.SetAround(n.Host, hosts.Link{})
	return n.Start(ctx)
}

// Process is the program's process, or its last one.
func (n *Node) Process() *supervise.Process { return n.supervisor.Process() }

// node adds a host on which a program is to run. It does not start it.
func (c *Cluster) node(name string, address netip.Addr, of func(*hosts.Host) program) (*Node, error) {
	host, err := c.Network.Add(name, address)
	if err != nil {
		return nil, err
	}
	log, err := c.log(name)
	if err != nil {
		return nil, err
	}
	p := of(host)
	n := &Node{Host: host, LogPath: log.Name(), network: c.Network}
	n.supervisor = &supervise.Supervisor{
		Name: name,
		Command: func() (*exec.Cmd, error) {
			cmd, err := p.command(n, log)
			if err == nil && n.Before != "" {
				itself := strings.Replace(cmd.Path, "/proc/self/", fmt.Sprintf("/proc/%d/", os.Getpid()), 1) // to the shell, self is the shell
				cmd.Args = append([]string{"sh", "-c", n.Before + ` && exec "$0" "$@"`, itself}, cmd.Args[1:]...)
				cmd.Path = "/bin/sh"
			}
			return cmd, err
		},
		Options:    supervise.Options{Thread: host.Thread, OrphanSignal: p.orphan},
		Ready:      p.ready,
		StopSignal: p.stop,
		Grace:      p.grace,
		Say:        c.say,
	}
	c.nodes = append(c.nodes, n)
	return n, nil
}

// nodesOf adds so many hosts of a kind: name-1, name-2 …
func (c *Cluster) nodesOf(many int, name string, kind int, of func(*hosts.Host) program) (nodes []*Node, err error) {
	for i := 1; i <= many; i++ {
		n, err := c.node(fmt.Sprintf("%s-%d", name, i), address(kind, i), of)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}
