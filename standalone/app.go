package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/mathub/webhooks/standalone/supervise"
	"github.com/mathub/webhooks/standalone/temporal"
	"github.com/mathub/webhooks/standalone/webui"
)

// demoBot is the bot that the first start makes.
const demoBot = "demo"

// startApp brings the product's schema up to date, makes at the first start what it needs to run and to be tried, and
// starts it.
func (s *stack) startApp(ctx context.Context) error {
	log, err := s.log("mathub-webhooks")
	if err != nil {
		return err
	}
	c := &s.data.Credentials
	if c.Keyset == "" {
		if c.Keyset, err = s.ask(ctx, log, "keyset", "new"); err != nil {
			return err
		}
		if err := s.data.Save(); err != nil {
			return err
		}
	}
	if _, err := s.ask(ctx, log, "migrate"); err != nil {
		return err
	}
	if c.BotID == "" {
		if c.BotID, err = s.ask(ctx, log, "bot", "create", demoBot); err != nil {
			return err
		}
		if err := s.data.Save(); err != nil {
			return err
		}
	}
	if c.BotKey == "" {
		if c.BotKey, err = s.ask(ctx, log, "bot", "key", c.BotID); err != nil {
			return err
		}
		if err := s.data.Save(); err != nil {
			return err
		}
	}
	s.app = s.keep(&supervise.Supervisor{
		Name: "API and worker",
		Command: func() (*exec.Cmd, error) {
			cmd := s.appCommand("serve")
			cmd.Stdout, cmd.Stderr = log, log
			return cmd, nil
		},
		Ready:      s.awaitApp,
		StopSignal: syscall.SIGTERM,
		Grace:      appGrace,
	})
	return s.app.Start(ctx)
}

func (s *stack) appCommand(args ...string) *exec.Cmd {
	cmd := exec.Command(s.App, args...) //nolint:gosec,noctx // the product; ended by its supervisor, or quick
	cmd.Env = s.appEnvironment(os.Environ())
	return cmd
}

// appEnvironment adds to env what the product needs. What the user set for it stays; which Postgres, with which keyset, and
// which Temporal it uses is not the user's to say: those of another data folder may be set.
func (s *stack) appEnvironment(env []string) []string {
	env = slices.DeleteFunc(env, func(variable string) bool {
		return strings.HasPrefix(variable, "MATHUB_DATABASE_URL=") || strings.HasPrefix(variable, "MATHUB_KEYSET=") || strings.HasPrefix(variable, "TEMPORAL_")
	})
	env = supervise.WithDefaults(env, map[string]string{
		"MATHUB_ADDR":          s.Addr,
		"MATHUB_INTERNAL_ADDR": s.InternalAddr,
		"MATHUB_ADMIN_ADDR":    s.AdminAddr,
		"MATHUB_SERVICE_TOKEN": s.data.Credentials.ServiceToken,
		"MATHUB_KEYSET":        s.data.Credentials.Keyset,
		"MATHUB_TEMPORAL_UI":   webui.Settings{Port: s.UIPort}.URL(),
		// Receivers on this machine, without TLS, are what one tries it with.
		"MATHUB_EGRESS_ALLOW":      "127.0.0.0/8,::1/128",
		"MATHUB_EGRESS_ALLOW_HTTP": "true",
		// Receivers on this machine are the user's own, and one tries how much they take.
		"MATHUB_UNVERIFIED_RATE": "off",
		"GOMEMLIMIT":             "400MiB", // as in the manifests
	})
	if s.InternalAddr != "" {
		env = supervise.WithDefaults(env, map[string]string{"MATHUB_PUBLIC_URL": s.baseURL()})
	}
	return append(denyPorts(env, append([]int{s.UIPort}, s.servicePorts...)),
		"MATHUB_DATABASE_URL="+s.server.LocalURL("mathub"),
		"TEMPORAL_ADDRESS="+s.temporalSettings().Addr(),
		"TEMPORAL_NAMESPACE="+temporal.Namespace,
		"TEMPORAL_CONFIG_FILE="+os.DevNull, // the user's own would speak of another server
	)
}

// denyPorts has no webhook lead to these ports of this machine, beside what the user denies.
func denyPorts(env []string, ports []int) []string {
	const name = "MATHUB_EGRESS_DENY="
	var denied []string
	for _, variable := range env {
		if given, is := strings.CutPrefix(variable, name); is && given != "" {
			denied = []string{given} // of several, the last counts
		}
	}
	for _, port := range ports {
		denied = append(denied, fmt.Sprintf(":%d", port))
	}
	return append(env, name+strings.Join(denied, ","))
}

// ask runs a subcommand of the product and returns what it prints.
func (s *stack) ask(ctx context.Context, log *os.File, args ...string) (string, error) {
	cmd := s.appCommand(args...)
	out, err := os.CreateTemp(s.data.Path, "answer-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(out.Name()) //nolint:errcheck // nothing can be done about it
	defer out.Close()           //nolint:errcheck // read already
	cmd.Stdout, cmd.Stderr = out, log
	name := "mathub-webhooks " + strings.Join(args[:min(2, len(args))], " ")
	process, err := supervise.Start(name, cmd, supervise.Options{})
	if err != nil {
		return "", err
	}
	select {
	case <-process.Done():
	case <-ctx.Done():
		process.Kill()
		return "", ctx.Err()
	}
	if err := process.Wait(); err != nil {
		return "", fmt.Errorf("%s: %w. The end of %s:\n%s", name, err, log.Name(), logTail(log.Name()))
	}
	answer, err := os.ReadFile(out.Name())
	return string(bytes.TrimSpace(answer)), err
}

// baseURL is where this machine reaches the API.
func (s *stack) baseURL() string { return urlOf(s.Addr) }

// serviceURL is where it reaches the service API.
func (s *stack) serviceURL() string {
	if s.InternalAddr != "" {
		return urlOf(s.InternalAddr)
	}
	return s.baseURL()
}

func (s *stack) awaitApp(ctx context.Context, ended <-chan struct{}) error {
	return supervise.AwaitReady(ctx, ended, 20*time.Millisecond, "the API did not become ready", s.askReady)
}

func (s *stack) askReady(ctx context.Context) error {
	return supervise.AskOK(ctx, http.DefaultClient, s.baseURL()+"/readyz")
}

// urlOf is where this machine reaches a listener, also if that listens on every address.
func urlOf(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}
