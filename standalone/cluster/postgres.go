package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mathub/webhooks/standalone/hosts"
	"github.com/mathub/webhooks/standalone/postgres"
	"github.com/mathub/webhooks/standalone/supervise"
	"github.com/mathub/webhooks/standalone/temporal"
)

const (
	// database is the product's.
	database      = "mathub"
	postgresGrace = time.Minute
)

// Server is a host with a Postgres server.
type Server struct {
	*Node

	postgres *postgres.Server // nil while the host has no data
	copies   int              // how often it has got data
	data     string           // the folder
}

// addPostgres adds the two hosts.
func (c *Cluster) addPostgres() error {
	for i := range c.servers {
		s := &Server{}
		node, err := c.node(fmt.Sprintf("postgres-%d", i+1), address(postgresHosts, i+1), func(*hosts.Host) program {
			return program{
				command: func(*Node, *os.File) (*exec.Cmd, error) { return s.postgres.Command(), nil },
				ready:   func(ctx context.Context, ended <-chan struct{}) error { return s.postgres.AwaitReady(ctx, ended) },
				stop:    postgres.StopSignal,
				grace:   postgresGrace,
				orphan:  postgres.StopSignal,
			}
		})
		if err != nil {
			return err
		}
		s.Node = node
		c.servers[i] = s
	}
	c.Primary = c.servers[0]
	return nil
}

// startPostgres starts the primary with all roles and databases, and the standby.
func (c *Cluster) startPostgres(ctx context.Context) (err error) {
	if c.Primary.postgres, err = postgres.Prepare(ctx, c.postgresConfig(c.Primary)); err != nil {
		return err
	}
	if err := c.Primary.Start(ctx); err != nil {
		return err
	}
	if err := c.Primary.postgres.CreateDatabases(ctx, database); err != nil {
		return err
	}
	if err := c.makeRoles(ctx); err != nil {
		return err
	}
	return c.AddStandby(ctx)
}

func (c *Cluster) postgresConfig(s *Server) postgres.Config {
	s.copies++
	s.data = filepath.Join(c.options.Dir, fmt.Sprintf("%s.data-%d", s.Name, s.copies))
	return postgres.Config{
		Dir:      s.data,
		Host:     s.Address.String(),
		Port:     postgresPort,
		Networks: []string{network.String()},
		Password: c.passwords.superuser,
		Log:      c.logs[s.Name],
		Thread:   s.Thread,
		Dial:     c.Outside.DialContext,
		Settings: serverSettings,
	}
}

// serverSettings are docker-compose.yml's.
var serverSettings = map[string]string{
	"max_connections":         "300",
	"tcp_keepalives_idle":     "5",
	"tcp_keepalives_interval": "5",
	"tcp_keepalives_count":    "2",
	"tcp_user_timeout":        "15s",
}

// makeRoles makes the roles and Temporal's databases, as docker-compose.yml's service "roles" does.
func (c *Cluster) makeRoles(ctx context.Context) error {
	conn, err := c.Primary.postgres.Connect(ctx, database)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // done with it
	statements := []string{c.options.Roles, "CREATE ROLE temporal LOGIN"}
	for role, password := range map[string]string{"mathub_owner": c.passwords.owner, "mathub_app": c.passwords.app, "temporal": c.passwords.temporal} {
		statements = append(statements, fmt.Sprintf("ALTER ROLE %s PASSWORD '%s'", role, password)) // of hexadecimal digits
	}
	for _, name := range []string{temporal.Database, temporal.VisibilityDatabase} {
		statements = append(statements, fmt.Sprintf("CREATE DATABASE %s OWNER temporal", name))
	}
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("make the roles of Postgres: %w", err)
		}
	}
	return nil
}

// AddStandby copies the primary to the other host, starts that as its standby, and waits until commits wait for it.
func (c *Cluster) AddStandby(ctx context.Context) (err error) {
	standby := c.servers[0]
	if standby == c.Primary {
		standby = c.servers[1]
	}
	if standby.postgres != nil {
		if err := standby.postgres.Close(); err != nil {
			return err
		}
	}
	if standby.postgres, err = postgres.PrepareStandby(ctx, c.postgresConfig(standby), c.Primary.postgres); err != nil {
		return err
	}
	if err := standby.Start(ctx); err != nil {
		return err
	}
	c.Standby = standby
	return c.SetSynchronous(ctx, true)
}

// SetSynchronous says whether the primary's commits wait for the standby, and waits until it is so.
func (c *Cluster) SetSynchronous(ctx context.Context, on bool) error {
	conn, err := c.Primary.postgres.Connect(ctx, "postgres")
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // done with it
	statement := "ALTER SYSTEM RESET synchronous_standby_names"
	if on {
		statement = "ALTER SYSTEM SET synchronous_standby_names = '*'"
	}
	for _, sql := range []string{statement, "SELECT pg_reload_conf()"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("Postgres's synchronous standby: %w", err) //nolint:staticcheck // a name
		}
	}
	return supervise.AwaitReady(ctx, c.Primary.Process().Done(), 20*time.Millisecond, "the standby does not follow", func(ctx context.Context) error {
		return isSynchronous(ctx, conn, on)
	})
}

func isSynchronous(ctx context.Context, conn *pgx.Conn, wanted bool) error {
	var setting string
	var following int
	err := conn.QueryRow(ctx, "SELECT current_setting('synchronous_standby_names'), (SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync')").Scan(&setting, &following)
	switch {
	case err != nil:
		return err
	case wanted && following == 1, !wanted && setting == "":
		return nil
	default:
		return errors.New("the setting is not in force yet")
	}
}

// Promote makes the standby the primary, which is then alone. The old primary must have ended.
func (c *Cluster) Promote(ctx context.Context) error {
	if err := c.Standby.postgres.Control(ctx, "promote", "--wait"); err != nil {
		return err
	}
	c.Primary, c.Standby = c.Standby, nil
	return nil
}

// databaseURL names both servers; sessions use the one that takes writes.
func (c *Cluster) databaseURL(role, password string) string {
	return fmt.Sprintf("postgres://%s@%s,%s/%s?sslmode=disable", url.UserPassword(role, password),
		c.servers[0].At(postgresPort), c.servers[1].At(postgresPort), database)
}

// DatabaseURL is how a superuser reaches the product's database from the cluster's network.
func (c *Cluster) DatabaseURL() string {
	return c.databaseURL(postgres.User, c.passwords.superuser)
}

func (c *Cluster) closePostgres() error {
	var errs []error
	for _, s := range c.servers {
		if s != nil && s.postgres != nil {
			errs = append(errs, s.postgres.Close())
		}
	}
	return errors.Join(errs...)
}
