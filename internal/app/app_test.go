package app

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/internal/settings"
	"github.com/mathub/webhooks/webhook"
)

func TestWrongSettingsAreSaidBeforeAnythingBegins(t *testing.T) {
	busy, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, busy.Close()) }()
	keyset, err := db.NewKeyset()
	require.NoError(t, err)
	other, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	free := other.Addr().String()
	require.NoError(t, other.Close())
	const nobody = "postgres://u:hunter2@127.0.0.1:1/x" // it would be waited for
	for name, c := range map[string]struct {
		url  string
		api  settings.API
		want string
	}{
		"database URL": {"postgres://u:hunter2@h:notaport/x", settings.API{Addr: "127.0.0.1:0", MaxWebhooksPerBot: 1, EmitStarts: 1, EmitGroup: 1}, "MATHUB_DATABASE_URL"},
		"port in use":  {nobody, settings.API{Addr: busy.Addr().String(), MaxWebhooksPerBot: 1, EmitStarts: 1, EmitGroup: 1}, "address already in use"},
		"retention":    {nobody, settings.API{Addr: "127.0.0.1:0", MaxWebhooksPerBot: 1, EmitStarts: 1, EmitGroup: 1}, "MATHUB_RETENTION"},
		"one address":  {nobody, settings.API{Addr: "127.0.0.1:0", InternalAddr: "127.0.0.1:0", MaxWebhooksPerBot: 1, EmitStarts: 1, EmitGroup: 1}, "MATHUB_INTERNAL_ADDR"},
		"service port": {nobody, settings.API{Addr: "127.0.0.1:0", InternalAddr: busy.Addr().String(), MaxWebhooksPerBot: 1, EmitStarts: 1, EmitGroup: 1}, "MATHUB_INTERNAL_ADDR"},
		"no address":   {nobody, settings.API{MaxWebhooksPerBot: 1, EmitStarts: 1, EmitGroup: 1}, "MATHUB_ADDR is empty"},
		"admin's port": {nobody, settings.API{Addr: "127.0.0.1:0", InternalAddr: free, MaxWebhooksPerBot: 1, EmitStarts: 1, EmitGroup: 1}, "MATHUB_INTERNAL_ADDR: listen tcp " + free},
		"no database":  {"", settings.API{Addr: "127.0.0.1:0", MaxWebhooksPerBot: 1, EmitStarts: 1, EmitGroup: 1}, "MATHUB_DATABASE_URL: database URL: is empty"},
		"no webhooks":  {nobody, settings.API{Addr: "127.0.0.1:0", MaxWebhooksPerBot: -3, EmitStarts: 1, EmitGroup: 1}, "MATHUB_MAX_WEBHOOKS_PER_BOT"},
		"too many":     {nobody, settings.API{Addr: "127.0.0.1:0", MaxWebhooksPerBot: 1001, EmitStarts: 1, EmitGroup: 1}, "MATHUB_MAX_WEBHOOKS_PER_BOT is 1001; must be 1 to 1000"},
		"no Web UI":    {nobody, settings.API{Addr: "127.0.0.1:0", MaxWebhooksPerBot: 1, TemporalUI: "127.0.0.1:8233"}, "MATHUB_TEMPORAL_UI"},
		"no starts":    {nobody, settings.API{Addr: "127.0.0.1:0", MaxWebhooksPerBot: 1, EmitGroup: 1}, "MATHUB_EMIT_STARTS"},
		"large groups": {nobody, settings.API{Addr: "127.0.0.1:0", MaxWebhooksPerBot: 1, EmitStarts: 1, EmitGroup: 1000}, "MATHUB_EMIT_GROUP"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Second, errors.New("it waited"))
			defer cancel()
			common := settings.Common{Database: settings.Database{DatabaseURL: c.url}, Encryption: settings.Encryption{Keyset: keyset}}
			worker := &settings.Worker{}
			if name == "retention" {
				common.Retention, worker.RetrySchedule = webhook.MinRetention, webhook.DefaultSchedule
			}
			if name == "admin's port" {
				common.AdminAddr = free
			}
			err := Run(ctx, settings.Process{Common: common, API: &c.api, Worker: worker}, "test")
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
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond) // it waits, as a migration may be in progress
	defer cancel()
	common := settings.Common{Database: settings.Database{DatabaseURL: url}, Encryption: settings.Encryption{Keyset: keyset}}
	addr := "127.0.0.1:0"
	err = Run(ctx, settings.Process{Common: common, API: &settings.API{Addr: addr, MaxWebhooksPerBot: 1, EmitStarts: 1, EmitGroup: 1}}, "test")
	require.ErrorContains(t, err, "schema")
}

func TestDeliveriesAreRefusedByOurOwnListeners(t *testing.T) {
	handler := refuseDeliveries(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	for delivery, status := range map[string]int{"": http.StatusNoContent, "0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e71": http.StatusForbidden} {
		r := httptest.NewRequest(http.MethodPost, "/debug/pprof/cmdline", http.NoBody)
		r.Header.Set("X-Mathub-Delivery", delivery)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		require.Equal(t, status, w.Code)
	}
}

// TestTheAdminListenerChecksTheHost, of pages, metrics and profiles alike: a stranger's page whose name leads here reads nothing.
func TestTheAdminListenerChecksTheHost(t *testing.T) {
	probe, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := probe.Addr().String()
	require.NoError(t, probe.Close())
	common := settings.Common{Admin: settings.Admin{AdminAddr: addr, AdminHosts: []string{"ops.example.org"}}}
	s := &admin{process: &process{settings: settings.Process{Common: common}, log: slog.New(slog.DiscardHandler)}}
	require.NoError(t, s.Start(t.Context()))
	defer s.Stop()
	for path, known := range map[string]int{"/ops": http.StatusServiceUnavailable, "/metrics": http.StatusOK, "/debug/pprof/cmdline": http.StatusOK, "/healthz": http.StatusOK} {
		for host, status := range map[string]int{addr: known, "ops.example.org": known, "evil.example": http.StatusMisdirectedRequest} {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+path, http.NoBody)
			require.NoError(t, err)
			request.Host = host
			answer, err := http.DefaultClient.Do(request)
			require.NoError(t, err)
			require.NoError(t, answer.Body.Close())
			require.Equal(t, status, answer.StatusCode, "%s of %s", path, host)
		}
	}
}

// fakeService notes what is done with it.
type fakeService struct {
	name  string
	done  *[]string
	start func(context.Context) error
}

func (s *fakeService) Name() string { return s.name }

func (s *fakeService) Start(ctx context.Context) error {
	*s.done = append(*s.done, "start "+s.name)
	if s.start != nil {
		return s.start(ctx)
	}
	return nil
}

func (s *fakeService) Stop() { *s.done = append(*s.done, "stop "+s.name) }

func TestRun(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		start func(context.Context, chan error, context.CancelFunc) error
		err   string
		done  []string
	}{
		"TheEndOfTheContextIsNoError": {
			func(_ context.Context, _ chan error, end context.CancelFunc) error { end(); return nil },
			"",
			[]string{"start a", "start b", "start c", "stop c", "stop b", "stop a"},
		},
		"APartThatFailsLaterEndsAll": {
			func(_ context.Context, failed chan error, _ context.CancelFunc) error { failed <- broken; return nil },
			"broken",
			[]string{"start a", "start b", "start c", "stop c", "stop b", "stop a"},
		},
		"APartThatDoesNotStartIsStoppedToo": {
			func(context.Context, chan error, context.CancelFunc) error { return broken },
			"b: broken",
			[]string{"start a", "start b", "stop b", "stop a"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, end := context.WithCancel(t.Context())
			defer end()
			failed := make(chan error, 1)
			var done []string
			var running context.Context
			err := run(ctx, failed,
				&fakeService{"a", &done, func(ctx context.Context) error { running = ctx; return nil }},
				&fakeService{"b", &done, func(ctx context.Context) error { return c.start(ctx, failed, end) }},
				&fakeService{"c", &done, nil})
			if c.err == "" {
				require.NoError(t, err)
			} else {
				require.EqualError(t, err, c.err)
			}
			require.Equal(t, c.done, done)
			require.Error(t, running.Err(), "what runs on ends before anything is stopped")
		})
	}
}
