// Package webui runs Temporal's Web UI as a child process: parts of the library end their whole process on an error.
package webui

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
	"github.com/temporalio/ui-server/v2/server/config"
	"github.com/temporalio/ui-server/v2/server/csrf"
	"github.com/temporalio/ui-server/v2/server/route"
	"github.com/temporalio/ui-server/v2/ui"

	"github.com/mathub/webhooks/internal/listen"
	"github.com/mathub/webhooks/standalone/supervise"
	"github.com/mathub/webhooks/standalone/temporal"
)

// StopSignal asks the Web UI to stop.
const StopSignal = syscall.SIGTERM

// Settings are all that the Web UI needs to know.
type Settings struct {
	Port         int // on 127.0.0.1
	TemporalAddr string
	Hosts        []string // names as which it is served too, besides those of loopback
	Codec        string   // the URL of the codec server, for payloads that are sealed; empty: they are not
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
	handler, err := s.handler()
	if err != nil {
		return err
	}
	server := &http.Server{
		Addr:              net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)),
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		_ = server.Close()
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// handler is what server.NewServer of the library makes, which neither gives its handler away nor looks at the Host that
// it is asked for: without passwords, any page could use it by DNS rebinding.
func (s Settings) handler() (http.Handler, error) {
	cfg, err := config.NewConfigProviderWithRefresh(&config.Config{
		TemporalGRPCAddress: s.TemporalAddr,
		EnableUI:            true,
		DefaultNamespace:    temporal.Namespace,
		CORS:                config.CORS{CookieInsecure: true}, // plain http, on loopback
		Codec:               config.Codec{Endpoint: s.Codec},
		// Nothing is asked of the internet.
		DisableNewsFetch:   true,
		NotifyOnNewVersion: false,
		HideLogs:           true,
	})
	if err != nil {
		return nil, err
	}
	assets, err := ui.Assets()
	if err != nil {
		return nil, err
	}
	if assets, err = fs.Sub(assets, "local"); err != nil {
		return nil, err
	}
	e := echo.New()
	e.Use(middleware.Recover(), middleware.Gzip(), middleware.Secure(), csrf.EnsureTokenCookie(false), middleware.CSRFWithConfig(csrf.MiddlewareConfig(cfg, false)))
	e.Pre(route.PublicPath(""))
	route.SetHealthRoute(e)
	if err := route.SetAPIRoutes(e, cfg, nil); err != nil {
		return nil, err
	}
	if err := route.SetUIRoutes(e, "", assets, cfg); err != nil {
		return nil, err
	}
	route.SetRenderRoute(e, "/")
	return listen.LocalHosts(e, s.Hosts...), nil
}

// AwaitReady waits until the Web UI answers, and Temporal through it.
func (s Settings) AwaitReady(ctx context.Context, ended <-chan struct{}) error {
	return supervise.AwaitReady(ctx, ended, 20*time.Millisecond, "the Temporal Web UI did not come up", s.ask)
}

func (s Settings) ask(ctx context.Context) error {
	return supervise.AskOK(ctx, http.DefaultClient, s.URL()+"/api/v1/namespaces/"+temporal.Namespace)
}
