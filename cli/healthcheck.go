package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// healthcheckTimeout leaves the 2 s that /readyz itself may take, and is under the 5 s that supervisors commonly give.
const healthcheckTimeout = 4 * time.Second

// Healthcheck asks a process on this machine whether it is ready, for supervisors that can run a program but have no
// curl: the product's image has neither shell nor tools.
type Healthcheck struct {
	Addr         string `env:"MATHUB_ADDR" default:"127.0.0.1:8080" help:"Where the API listens."`
	InternalAddr string `env:"MATHUB_INTERNAL_ADDR" help:"Where the service API listens, if separate. It is asked instead of MATHUB_ADDR."`
	AdminAddr    string `env:"MATHUB_ADMIN_ADDR" help:"Where the admin listener is."`
	Admin        bool   `help:"Ask the admin listener instead of the API. For workers."`
}

// Run returns nil when GET /readyz is answered 200, else an error that says what is wrong.
func (c *Healthcheck) Run(ctx context.Context) error {
	addr := cmp.Or(c.InternalAddr, c.Addr)
	if c.Admin {
		if addr = c.AdminAddr; addr == "" {
			return errors.New("MATHUB_ADMIN_ADDR is not set")
		}
	}
	ctx, cancel := context.WithTimeout(ctx, healthcheckTimeout)
	defer cancel()
	// An unspecified host, as in 0.0.0.0:8080 or :8080, is this machine: net.Dial takes it so.
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", http.NoBody)
	if err != nil {
		return fmt.Errorf("%s: %w", addr, err)
	}
	answer, err := (&http.Transport{Proxy: nil, DisableKeepAlives: true}).RoundTrip(request) // a proxy of the environment has no business here
	if err != nil {
		return err
	}
	defer answer.Body.Close() //nolint:errcheck // read
	body, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s: %s", answer.Status, strings.TrimSpace(string(body)))
	}
	return nil
}
