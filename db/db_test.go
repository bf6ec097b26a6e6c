package db_test

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
)

func newKeyset(t *testing.T) (*db.Keyset, string) {
	t.Helper()
	text, err := db.NewKeyset()
	require.NoError(t, err)
	keyset, err := db.ParseKeyset(" " + text + "\n")
	require.NoError(t, err)
	return keyset, text
}

func TestASecretOpensForItsWebhookAndKeysetOnly(t *testing.T) {
	keyset, text := newKeyset(t)
	id := uuid.New()
	for _, secret := range []string{"hunter2", "пароль", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"} {
		sealed, err := keyset.Seal(id, secret)
		require.NoError(t, err)
		require.NotContains(t, string(sealed), secret)
		opened, err := keyset.Open(id, sealed)
		require.NoError(t, err)
		require.Equal(t, secret, opened)
		again, err := keyset.Seal(id, secret)
		require.NoError(t, err)
		require.NotEqual(t, sealed, again, "equal secrets do not show")

		_, err = keyset.Open(uuid.New(), sealed)
		require.Error(t, err, "sealed for another webhook")
		another, _ := newKeyset(t)
		_, err = another.Open(id, sealed)
		require.ErrorContains(t, err, "MATHUB_KEYSET")
		require.NotContains(t, err.Error(), secret)
	}
	for _, bad := range []string{"", "nonsense", text[:len(text)-8], "e30="} {
		_, err := db.ParseKeyset(bad)
		require.ErrorContains(t, err, "keyset new")
	}
}

func TestANotifySecretOpensForItsBotOnly(t *testing.T) {
	keyset, _ := newKeyset(t)
	sealed, err := keyset.SealNotify("bot-a", "hunter2")
	require.NoError(t, err)
	opened, err := keyset.OpenNotify("bot-a", sealed)
	require.NoError(t, err)
	require.Equal(t, "hunter2", opened)
	_, err = keyset.OpenNotify("bot-b", sealed)
	require.ErrorContains(t, err, "bot-b")
	require.NotContains(t, err.Error(), "hunter2")
	_, err = keyset.Open(uuid.New(), sealed)
	require.Error(t, err)
}

func TestProcessesThatMigrateAtOnceWaitForEachOther(t *testing.T) {
	t.Parallel()
	url := dbtest.NewURL(t)
	pool, err := db.Open(t.Context(), url)
	require.NoError(t, err)
	defer pool.Close()
	_, err = pool.Exec(t.Context(), "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
	require.NoError(t, err)
	var mu sync.Mutex
	var applied []string
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			names, err := db.Migrate(context.Background(), url)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			applied = append(applied, names...)
		})
	}
	all.Wait()
	files, err := os.ReadDir("migrations")
	require.NoError(t, err)
	var names []string
	for _, file := range files {
		names = append(names, file.Name())
	}
	require.Equal(t, names, applied, "each once, in order")
}

func TestOpenSaysWhatIsWrongWithoutThePassword(t *testing.T) {
	for _, url := range []string{"postgres://u:hunter2@127.0.0.1:1/x", "postgres://u:hunter2@127.0.0.1:notaport/x"} {
		_, err := db.Open(t.Context(), url)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

func TestATransactionIsAllOrNothing(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	q := db.New()
	failed := errors.New("no")
	err := db.WithTx(t.Context(), pool, func(tx pgx.Tx) error {
		if _, err := q.CreateBot(t.Context(), tx, db.CreateBotParams{ID: "b", Name: "b"}); err != nil {
			return err
		}
		return failed
	})
	require.ErrorIs(t, err, failed)
	_, err = q.GetBot(t.Context(), pool, "b")
	require.ErrorIs(t, err, pgx.ErrNoRows)
}

// TestTransactionsDoNotStandIdle: of a process that stands still, Postgres ends them, also those that only read.
func TestTransactionsDoNotStandIdle(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	for mode, with := range map[string]func(context.Context, *pgxpool.Pool, func(pgx.Tx) error) error{
		"read committed off": db.WithTx, "repeatable read on": db.WithSnapshot,
	} {
		require.NoError(t, with(t.Context(), pool, func(tx pgx.Tx) error {
			var limit, got string
			err := tx.QueryRow(t.Context(), `SELECT current_setting('idle_in_transaction_session_timeout'),
				current_setting('transaction_isolation') || ' ' || current_setting('transaction_read_only')`).Scan(&limit, &got)
			require.Equal(t, "10s", limit)
			require.Equal(t, mode, got)
			return err
		}))
	}
}

func TestUnavailabilityIsToldFromRefusal(t *testing.T) {
	t.Parallel()
	_, err := db.Open(t.Context(), "postgres://u@127.0.0.1:1/x")
	require.True(t, db.IsUnavailable(err))
	require.True(t, db.IsUntouched(err))
	pool := dbtest.New(t)
	_, err = pool.Exec(t.Context(), "SELECT 1/0")
	require.False(t, db.IsUnavailable(err))
	_, err = pool.Exec(t.Context(), "SELECT pg_terminate_backend(pg_backend_pid())")
	require.True(t, db.IsUnavailable(err), "%v", err)
	require.False(t, db.IsUntouched(err), "it was in a statement")
	require.False(t, db.IsUnavailable(pgx.ErrNoRows))
}

// TestSealed_OpensAsWhatItIs: what is sealed for one row and use opens for no other.
func TestSealed_OpensAsWhatItIs(t *testing.T) {
	t.Parallel()
	keyset, _ := newKeyset(t)
	id, bot := uuid.New(), "bot"
	uses := map[string]struct {
		seal func(string) ([]byte, error)
		open func([]byte) (string, error)
	}{
		"secret":        {func(s string) ([]byte, error) { return keyset.Seal(id, s) }, func(b []byte) (string, error) { return keyset.Open(id, b) }},
		"URL":           {func(s string) ([]byte, error) { return keyset.SealURL(id, s) }, func(b []byte) (string, error) { return keyset.OpenURL(id, b) }},
		"notify secret": {func(s string) ([]byte, error) { return keyset.SealNotify(bot, s) }, func(b []byte) (string, error) { return keyset.OpenNotify(bot, b) }},
		"notify URL":    {func(s string) ([]byte, error) { return keyset.SealNotifyURL(bot, s) }, func(b []byte) (string, error) { return keyset.OpenNotifyURL(bot, b) }},
	}
	for sealedAs, from := range uses {
		sealed, err := from.seal("https://example.com/token")
		require.NoError(t, err)
		require.NotContains(t, string(sealed), "token")
		for openedAs, to := range uses {
			got, err := to.open(sealed)
			require.Equal(t, sealedAs == openedAs, err == nil, "%s as %s", sealedAs, openedAs)
			if err == nil {
				require.Equal(t, "https://example.com/token", got)
			} else {
				require.NotContains(t, err.Error(), "token")
			}
		}
	}
	sealed, err := keyset.SealURL(id, "https://example.com/token")
	require.NoError(t, err)
	_, err = keyset.OpenURL(uuid.New(), sealed)
	require.Error(t, err)
	sealed, err = keyset.SealNotifyURL(bot, "https://example.com/token")
	require.NoError(t, err)
	_, err = keyset.OpenNotifyURL("bot2", sealed)
	require.Error(t, err)
}

// BenchmarkOpen is what a delivery pays for a URL and a secret that are sealed.
func BenchmarkOpen(b *testing.B) {
	text, err := db.NewKeyset()
	require.NoError(b, err)
	keyset, err := db.ParseKeyset(text)
	require.NoError(b, err)
	id := uuid.New()
	url, err := keyset.SealURL(id, "https://hooks.example.com/mathub/incoming?token=0195b2f05a3e7c1d")
	require.NoError(b, err)
	secret, err := keyset.Seal(id, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		_, urlErr := keyset.OpenURL(id, url)
		_, secretErr := keyset.Open(id, secret)
		if urlErr != nil || secretErr != nil {
			b.Fatal(urlErr, secretErr)
		}
	}
}
