// Package webui runs Temporal's Web UI as a child process: the library ends its whole process on an error.
package webui

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/temporalio/ui-server/v2/server"
	"github.com/temporalio/ui-server/v2/server/config"
	"github.com/temporalio/ui-server/v2/server/server_options"

	"github.com/mathub/webhooks/standalone/supervise"
	"github.com/mathub/webhooks/standalone/temporal"
)

// StopSignal asks the Web UI to stop.
const StopSignal = syscall.SIGTERM

// Settings are all that the Web UI needs to know.
type Settings struct {
	Port         int // on 127.0.0.1
	TemporalAddr string
}

// settingsVariable carries the settings to the child.
const settingsVariable = "MATHUB_STANDALONE_WEBUI"

// URL is where a browser finds it.
func (s Settings) URL() string {
	return "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port))
}

// Command is the Web UI as a child process: this program, started with args, which must call RunChild then.
func (s Settings) Command(log *os.File, args ...string) (*exec.Cmd, error) {
	encoded, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	cmd, err := supervise.Self(log, args...)
	if err != nil {
		return nil, err
	}
	cmd.Env = append(os.Environ(), settingsVariable+"="+string(encoded))
	return cmd, nil
}

// RunChild is the Web UI's process, until SIGTERM or SIGINT.
func RunChild() error {
	encoded, ok := os.LookupEnv(settingsVariable)
	if !ok {
		return errors.New("this command is started by the standalone program only")
	}
	var s Settings
	if err := json.Unmarshal([]byte(encoded), &s); err != nil {
		return err
	}
	ui := server.NewServer(server_options.WithConfigProvider(&config.Config{
		TemporalGRPCAddress: s.TemporalAddr,
		Host:                "127.0.0.1",
		Port:                s.Port,
		EnableUI:            true,
		DefaultNamespace:    temporal.Namespace,
		CORS:                config.CORS{CookieInsecure: true}, // plain http, on loopback
		// Nothing is asked of the internet.
		DisableNewsFetch:   true,
		NotifyOnNewVersion: false,
		HideLogs:           true,
	}))
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		ui.Stop()
	}()
	return ui.Start()
}

// AwaitReady waits until the Web UI answers, and Temporal through it.
func (s Settings) AwaitReady(ctx context.Context, ended <-chan struct{}) error {
	for {
		err := s.ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			return supervise.ErrEnded
		case <-ctx.Done():
			return fmt.Errorf("the Temporal Web UI did not come up: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s Settings) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL()+"/api/v1/namespaces/"+temporal.Namespace, http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // read to its end
	_, _ = io.Copy(io.Discard, response.Body)
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", response.Status)
	}
	return nil
}
