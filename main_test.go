package main

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
)

func TestWrongSettingsAreSaidBeforeAnythingBegins(t *testing.T) {
	busy, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, busy.Close()) }()
	keyset, err := db.NewKeyset()
	require.NoError(t, err)
	const nobody = "postgres://u:hunter2@127.0.0.1:1/x" // it would be waited for
	for name, c := range map[string]struct {
		url  string
		api  apiFlags
		want string
	}{
		"database URL": {"postgres://u:hunter2@h:notaport/x", apiFlags{Addr: "127.0.0.1:0", MaxWebhooksPerBot: 1}, "MATHUB_DATABASE_URL"},
		"port in use":  {nobody, apiFlags{Addr: busy.Addr().String(), MaxWebhooksPerBot: 1}, "address already in use"},
		"no webhooks":  {nobody, apiFlags{Addr: "127.0.0.1:0", MaxWebhooksPerBot: -3}, "MATHUB_MAX_WEBHOOKS_PER_BOT"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Second, errors.New("it waited"))
			defer cancel()
			common := commonFlags{databaseFlags: databaseFlags{DatabaseURL: c.url}, keysetFlags: keysetFlags{Keyset: keyset}}
			err := run(ctx, common, &c.api, &workerFlags{})
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "hunter2")
			require.NoError(t, ctx.Err())
		})
	}
}
