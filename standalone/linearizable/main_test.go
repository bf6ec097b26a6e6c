//go:build !changed

package linearizable_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/mathub/webhooks/standalone/scratch"
	"github.com/mathub/webhooks/standalone/servers"
)

// databaseURL is the variable where package dbtest looks for a server.
const databaseURL = "MATHUB_TEST_DATABASE_URL"

func TestMain(m *testing.M) {
	status, err := withPostgres(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

// withPostgres runs the tests with a Postgres of their own, unless one is given.
func withPostgres(m *testing.M) (status int, err error) {
	if os.Getenv(databaseURL) != "" {
		return m.Run(), nil
	}
	dir, remove, err := scratch.Make()
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	private, err := servers.Start(context.Background(), servers.Options{Dir: dir, NoTemporal: true})
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, private.Stop()) }()
	if err := os.Setenv(databaseURL, private.DatabaseURL("postgres")); err != nil {
		return 1, err
	}
	return m.Run(), nil
}
