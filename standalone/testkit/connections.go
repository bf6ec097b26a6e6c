package testkit

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	enumsspb "go.temporal.io/server/api/enums/v1"

	"github.com/mathub/webhooks/standalone/temporal"
)

// connect makes the ways to the database and to Temporal, each at its first use; the test's end closes them.
func (s *Stack) connect(t testing.TB) {
	s.database = sync.OnceValues(func() (*pgxpool.Pool, error) { return s.pool(t, s.DatabaseURL(), "") })
	s.engine = sync.OnceValues(func() (*pgxpool.Pool, error) {
		if s.attached != nil {
			return s.pool(t, s.DatabaseURL(), temporal.Database)
		}
		return s.pool(t, s.Servers.DatabaseURL(temporal.Database), "")
	})
	s.temporal = sync.OnceValues(func() (client.Client, error) {
		options := client.Options{HostPort: s.TemporalAddr(), Logger: sdklog.NewStructuredLogger(quiet)}
		if s.attached != nil {
			options.ConnectionOptions.DialOptions = s.attached.dialOptions()
		}
		c, err := client.NewLazyClient(options)
		if err == nil {
			t.Cleanup(c.Close)
		}
		return c, err
	})
}

// pool is a pool on a database, which is the URL's unless it is named.
func (s *Stack) pool(t testing.TB, url, name string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	if name != "" {
		config.ConnConfig.Database = name
	}
	if len(config.ConnConfig.Fallbacks) > 0 {
		config.ConnConfig.ConnectTimeout = 3 * time.Second // a host that hangs is passed over, in pgx's pool after two minutes
	}
	if s.attached != nil {
		config.ConnConfig.DialFunc = s.attached.Dial
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err == nil {
		t.Cleanup(pool.Close)
	}
	return pool, err
}

// Running is how many of the product's workflows run. It reads what Temporal has stored, as its lists are late, on a busy machine
// by seconds.
func (s *Stack) Running(ctx context.Context) (workflows int, err error) {
	pool, err := s.engine()
	if err != nil {
		return 0, err
	}
	err = pool.QueryRow(ctx, `
		SELECT count(*) FROM current_executions e JOIN namespaces n ON n.id = e.namespace_id
		WHERE n.name = $1 AND e.state <> $2 AND e.workflow_id NOT LIKE 'temporal-sys-%'`,
		temporal.Namespace, enumsspb.WORKFLOW_EXECUTION_STATE_COMPLETED).Scan(&workflows)
	return workflows, err
}
