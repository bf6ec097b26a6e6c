package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/mathub/webhooks/standalone/hosts"
)

// findBalancer finds HAProxy's program, which Debian has where only root's PATH leads.
func findBalancer(given string) (string, error) {
	for _, candidate := range []string{given, "haproxy", "/usr/sbin/haproxy"} {
		if candidate == "" {
			continue
		}
		path, err := exec.LookPath(candidate)
		if err == nil {
			return path, nil
		}
		if given != "" {
			return "", fmt.Errorf("HAProxy: %w", err)
		}
	}
	return "", errors.New("haproxy is missing: install it (Debian: apt-get install haproxy), or name it with --haproxy")
}

// addBalancer adds the load balancer's host.
func (c *Cluster) addBalancer() (err error) {
	c.Balancer, err = c.node("balancer", balancer, func(h *hosts.Host) program {
		return program{
			command: func(_ *Node, log *os.File) (*exec.Cmd, error) {
				cmd := exec.Command(c.options.HAProxy, "-db", "-f", c.balancerFile()) //nolint:gosec,noctx // its supervisor ends it
				cmd.Stdout, cmd.Stderr = log, log
				return cmd, nil
			},
			ready: c.listens(h, temporalPort),
			stop:  syscall.SIGTERM,
			grace: 5 * time.Second,
		}
	})
	return err
}

func (c *Cluster) balancerFile() string { return filepath.Join(c.options.Dir, "haproxy.cfg") }

// writeBalancer writes HAProxy's configuration: the API's two ports, checked as the manifests' readiness probe does, and
// Temporal's.
func (c *Cluster) writeBalancer() error {
	var b strings.Builder
	b.WriteString(`global
	maxconn 8000

defaults
	timeout connect 2s
	timeout client 75s
	timeout server 75s
	timeout check 2s
	retries 3
	option redispatch 1
	default-server check inter 1s fall 2 rise 1 on-marked-down shutdown-sessions
`)
	for _, listener := range []struct {
		name string
		port uint16
	}{{"api", apiPort}, {"service-api", servicePort}} {
		fmt.Fprintf(&b, "\nlisten %s\n\tmode http\n\tbind %s\n\toption forwardfor\n\toption httpchk GET /readyz\n", listener.name, c.Balancer.At(listener.port))
		for _, api := range c.APIs {
			fmt.Fprintf(&b, "\tserver %s %s port %d\n", api.Name, api.At(listener.port), servicePort)
		}
	}
	fmt.Fprintf(&b, "\nlisten temporal\n\tmode tcp\n\tbind %s\n\ttimeout client 5m\n\ttimeout server 5m\n", c.Balancer.At(temporalPort))
	for _, frontend := range c.Frontends {
		fmt.Fprintf(&b, "\tserver %s %s\n", frontend.Name, frontend.At(temporalPort))
	}
	return os.WriteFile(c.balancerFile(), []byte(b.String()), 0o600)
}

// URL is where the API is for clients in the cluster's network: at the load balancer.
func (c *Cluster) URL() string { return "http://" + c.Balancer.At(apiPort) }

// ServiceURL is where the service API is.
func (c *Cluster) ServiceURL() string { return "http://" + c.Balancer.At(servicePort) }
