package main

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/cli"
	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/webhook"
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
		"database URL": {"postgres://u:hunter2@h:notaport/x", apiFlags{Addr: "127.0.0.1:0", MaxWebhooksPerBot: 1, EmitStarts: 1, EmitGroup: 1}, "MATHUB_DATABASE_URL"},
		"port in use":  {nobody, apiFlags{Addr: busy.Addr().String(), MaxWebhooksPerBot: 1, EmitStarts: 1, EmitGroup: 1}, "address already in use"},
		"retention":    {nobody, apiFlags{Addr: "127.0.0.1:0", MaxWebhooksPerBot: 1, EmitStarts: 1, EmitGroup: 1}, "MATHUB_RETENTION"},
		"one address":  {nobody, apiFlags{Addr: "127.0.0.1:0", InternalAddr: "127.0.0.1:0", MaxWebhooksPerBot: 1, EmitStarts: 1, EmitGroup: 1}, "MATHUB_INTERNAL_ADDR"},
		"service port": {nobody, apiFlags{Addr: "127.0.0.1:0", InternalAddr: busy.Addr().String(), MaxWebhooksPerBot: 1, EmitStarts: 1, EmitGroup: 1}, "MATHUB_INTERNAL_ADDR"},
		"no webhooks":  {nobody, apiFlags{Addr: "127.0.0.1:0", MaxWebhooksPerBot: -3, EmitStarts: 1, EmitGroup: 1}, "MATHUB_MAX_WEBHOOKS_PER_BOT"},
		"no Web UI":    {nobody, apiFlags{Addr: "127.0.0.1:0", MaxWebhooksPerBot: 1, TemporalUI: "127.0.0.1:8233"}, "MATHUB_TEMPORAL_UI"},
		"no starts":    {nobody, apiFlags{Addr: "127.0.0.1:0", MaxWebhooksPerBot: 1, EmitGroup: 1}, "MATHUB_EMIT_STARTS"},
		"large groups": {nobody, apiFlags{Addr: "127.0.0.1:0", MaxWebhooksPerBot: 1, EmitStarts: 1, EmitGroup: 1000}, "MATHUB_EMIT_GROUP"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Second, errors.New("it waited"))
			defer cancel()
			common := commonFlags{DatabaseFlags: cli.DatabaseFlags{DatabaseURL: c.url}, KeysetFlags: cli.KeysetFlags{Keyset: keyset}}
			worker := &workerFlags{}
			if name == "retention" {
				common.Retention, worker.RetrySchedule = webhook.MinRetention, webhook.DefaultSchedule
			}
			err := run(ctx, common, &c.api, worker)
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "hunter2")
			require.NoError(t, ctx.Err())
		})
	}
}

func TestNothingStartsWithoutTheSchema(t *testing.T) {
	url := dbtest.NewURL(t)
	pool, err := db.Open(t.Context(), url)
	require.NoError(t, err)
	defer pool.Close()
	require.NoError(t, db.CheckSchema(t.Context(), pool))
	_, err = pool.Exec(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, true)")
	require.NoError(t, err)
	require.NoError(t, db.CheckSchema(t.Context(), pool), "a later schema is no fault")
	_, err = pool.Exec(t.Context(), "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
	require.NoError(t, err)
	require.ErrorContains(t, db.CheckSchema(t.Context(), pool), "run `mathub-webhooks migrate`")

	keyset, err := db.NewKeyset()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond) // it waits, as the schema may be under way
	defer cancel()
	common := commonFlags{DatabaseFlags: cli.DatabaseFlags{DatabaseURL: url}, KeysetFlags: cli.KeysetFlags{Keyset: keyset}}
	addr := "127.0.0.1:0"
	err = run(ctx, common, &apiFlags{Addr: addr, MaxWebhooksPerBot: 1, EmitStarts: 1, EmitGroup: 1}, nil)
	require.ErrorContains(t, err, "schema")
}
