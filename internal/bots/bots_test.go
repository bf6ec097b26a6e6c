package bots_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/problem"
)

func TestService_Update(t *testing.T) {
	pool := dbtest.New(t)
	text, err := db.NewKeyset()
	require.NoError(t, err)
	keyset, err := db.ParseKeyset(text)
	require.NoError(t, err)
	whole := &bots.Service{Pool: pool, Keyset: keyset}
	url, suspended := "https://bots.example.org/trouble", false
	made, err := whole.Create(t.Context(), bots.New{Name: "euler", NotifyChange: bots.NotifyChange{SetURL: true, URL: &url}})
	require.NoError(t, err)
	require.NotNil(t, made.NotifySecret)

	t.Run("SuspendingNeedsNoKeyset", func(t *testing.T) {
		bot, err := (&bots.Service{Pool: pool}).Update(t.Context(), made.ID, bots.Change{IsActive: &suspended})
		require.NoError(t, err)
		require.False(t, bot.IsActive)
		bot, err = whole.Get(t.Context(), made.ID)
		require.NoError(t, err)
		require.False(t, bot.IsActive)
		require.Equal(t, &url, bot.NotifyURL, "it stays")
	})
	t.Run("NobodysIDIsNotFound", func(t *testing.T) {
		for _, id := range []string{"nobody", "no id at all!", ""} {
			_, err := whole.Update(t.Context(), id, bots.Change{IsActive: &suspended})
			require.Equal(t, problem.NotFound, problem.Of(err).Kind, id)
			_, err = whole.Get(t.Context(), id)
			require.Equal(t, problem.NotFound, problem.Of(err).Kind, id)
			_, _, err = whole.CreateKey(t.Context(), id, "")
			require.Equal(t, problem.NotFound, problem.Of(err).Kind, id)
			_, err = whole.Keys(t.Context(), id)
			require.Equal(t, problem.NotFound, problem.Of(err).Kind, id)
		}
	})
	t.Run("EveryFaultIsNamed", func(t *testing.T) {
		http, secret := "http://10.0.0.1/", "with space "
		_, err := whole.Update(t.Context(), made.ID, bots.Change{NotifyChange: bots.NotifyChange{SetURL: true, URL: &http, Secret: &secret}})
		require.Equal(t, problem.Invalid, problem.Of(err).Kind)
		require.ErrorContains(t, err, "notifyUrl: ")
		require.ErrorContains(t, err, "notifySecret: ")
	})
}
