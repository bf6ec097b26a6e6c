package cluster

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/mathub/webhooks/standalone/hosts"
	"github.com/mathub/webhooks/standalone/supervise"
)

// productGrace is stop_grace_period in docker-compose.yml.
const productGrace = 15 * time.Second

// addProduct adds the hosts of the product's processes.
func (c *Cluster) addProduct() (err error) {
	of := func(subcommand string, port int) func(*hosts.Host) program {
		return func(h *hosts.Host) program {
			return program{
				command: func(n *Node, log *os.File) (*exec.Cmd, error) {
					cmd := product(cmp.Or(n.Binary, c.options.Binary), c.Environment(subcommand), subcommand)
					cmd.Stdout, cmd.Stderr = log, log
					return cmd, nil
				},
				ready: c.isReady("http://" + h.At(uint16(port)) + "/readyz"),
				stop:  syscall.SIGTERM,
				grace: productGrace,
			}
		}
	}
	if c.APIs, err = c.nodesOf(c.options.Layout.APIs, "api", apiHosts, of("api", servicePort)); err != nil {
		return err
	}
	c.Workers, err = c.nodesOf(c.options.Layout.Workers, "worker", workerHosts, of("worker", adminPort))
	return err
}

// startProduct makes the schema and starts all processes at once.
func (c *Cluster) startProduct(ctx context.Context) (err error) {
	if c.keyset, err = c.Run(ctx, "keyset", "new"); err != nil {
		return err
	}
	if _, err := c.Migrate(ctx, c.options.Binary); err != nil {
		return err
	}
	if err := startAll(ctx, c.APIs, c.Workers); err != nil {
		return err
	}
	// The load balancer finds out by itself.
	for _, url := range []string{c.URL(), c.ServiceURL()} {
		if err := c.isReady(url+"/readyz")(ctx, nil); err != nil {
			return err
		}
	}
	return nil
}

// Environment is what the product's processes get: "api" or "worker". It is docker-compose.yml's, with this network's addresses and
// with what lets receivers be on it.
func (c *Cluster) Environment(subcommand string) []string {
	variables := map[string]string{
		"MATHUB_ADMIN_ADDR":    fmt.Sprintf("0.0.0.0:%d", adminPort),
		"MATHUB_DATABASE_URL":  c.databaseURL("mathub_app", c.passwords.app),
		"MATHUB_KEYSET":        c.keyset,
		"MATHUB_RETENTION":     "30d",
		"MATHUB_LOG_FORMAT":    "json",
		"TEMPORAL_ADDRESS":     c.TemporalAddr(),
		"TEMPORAL_CONFIG_FILE": os.DevNull, // the user's own would speak of another server
		"GOMEMLIMIT":           "400MiB",

		// It leaves the hosts of the cluster out, so that no webhook leads to them.
		"MATHUB_EGRESS_ALLOW":      outside.String(),
		"MATHUB_EGRESS_ALLOW_HTTP": "true",
		"MATHUB_UNVERIFIED_RATE":   "off",
		"MATHUB_VERIFY_ENDPOINTS":  "off",
	}
	if subcommand == "api" {
		maps.Copy(variables, map[string]string{
			"MATHUB_ADDR":          fmt.Sprintf("0.0.0.0:%d", apiPort),
			"MATHUB_INTERNAL_ADDR": fmt.Sprintf("0.0.0.0:%d", servicePort),
			"MATHUB_SERVICE_TOKEN": c.ServiceToken,
			"MATHUB_PUBLIC_URL":    c.URL(),
			// The load balancer says who calls.
			"MATHUB_TRUSTED_PROXIES": c.Balancer.Address.String() + "/32",
		})
	}
	maps.Copy(variables, c.options.Env)
	environment := slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "MATHUB_") || strings.HasPrefix(variable, "TEMPORAL_") || strings.HasPrefix(variable, "PG")
	})
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		environment = append(environment, name+"="+variables[name])
	}
	return environment
}

// product is one of its subcommands.
func product(binary string, environment []string, args ...string) *exec.Cmd {
	cmd := exec.Command(binary, args...) //nolint:gosec,noctx // the product; ended by its supervisor, or quick
	cmd.Env = environment
	return cmd
}

// Run runs a subcommand of the product outside of the cluster, as an operator, and returns what it prints on stdout, trimmed.
func (c *Cluster) Run(ctx context.Context, args ...string) (string, error) {
	return c.run(ctx, product(c.options.Binary, c.Environment("api"), args...))
}

// Migrate runs the subcommand migrate of a build of the product, as the schema's owner.
func (c *Cluster) Migrate(ctx context.Context, binary string, args ...string) (string, error) {
	owner := "MATHUB_DATABASE_URL=" + c.databaseURL("mathub_owner", c.passwords.owner)
	return c.run(ctx, product(binary, append(c.Environment("api"), owner), append([]string{"migrate"}, args...)...))
}

func (c *Cluster) run(ctx context.Context, cmd *exec.Cmd) (string, error) {
	name := "mathub-webhooks " + strings.Join(cmd.Args[1:], " ")
	out, err := os.CreateTemp(c.options.Dir, "answer-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(out.Name()) //nolint:errcheck // nothing can be done about it
	defer out.Close()           //nolint:errcheck // read already
	log, err := c.log("operator")
	if err != nil {
		return "", err
	}
	cmd.Stdout, cmd.Stderr = out, log
	if err := c.complete(ctx, c.Outside, name, cmd); err != nil {
		return "", fmt.Errorf("%w: see %s", err, log.Name())
	}
	answer, err := os.ReadFile(out.Name())
	return string(bytes.TrimSpace(answer)), err
}

// complete runs a command on a host to its end.
func (c *Cluster) complete(ctx context.Context, h *hosts.Host, name string, cmd *exec.Cmd) error {
	process, err := supervise.Start(name, cmd, supervise.Options{Thread: h.Thread})
	if err != nil {
		return err
	}
	select {
	case <-process.Done():
	case <-ctx.Done():
		process.Kill()
		return ctx.Err()
	}
	if err := process.Wait(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// isReady waits until a URL answers 200.
func (c *Cluster) isReady(url string) func(context.Context, <-chan struct{}) error {
	return func(ctx context.Context, ended <-chan struct{}) error {
		return supervise.AwaitReady(ctx, ended, 50*time.Millisecond, "it did not become ready", func(ctx context.Context) error {
			return supervise.AskOK(ctx, c.Client, url)
		})
	}
}
