package db_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
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
	require.Equal(t, []string{"00001_init.sql", "00002_subscriptions.sql", "00003_previous_secret.sql", "00007_event_log.sql"}, applied, "each once")
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

func TestUnavailabilityIsToldFromRefusal(t *testing.T) {
	t.Parallel()
	_, err := db.Open(t.Context(), "postgres://u@127.0.0.1:1/x")
	require.True(t, db.IsUnavailable(err))
	pool := dbtest.New(t)
	_, err = pool.Exec(t.Context(), "SELECT 1/0")
	require.False(t, db.IsUnavailable(err))
	_, err = pool.Exec(t.Context(), "SELECT pg_terminate_backend(pg_backend_pid())")
	require.True(t, db.IsUnavailable(err), "%v", err)
	require.False(t, db.IsUnavailable(pgx.ErrNoRows))
}
