package settings

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPostgresPlaces(t *testing.T) {
	require.Equal(t, []string{":5433"}, postgresPlaces("postgres://127.0.0.1:5433/mathub?host=/var/run/postgresql"), "a socket is this machine's")
	require.Empty(t, postgresPlaces("not a URL"))
	require.Equal(t, []string{"127.0.0.1:5432"}, postgresPlaces("postgres://u@127.0.0.1/x"))
}
