package bots_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
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

func TestService_Find(t *testing.T) {
	s := &bots.Service{Pool: dbtest.New(t)}
	id := webhook.NewID()
	for _, in := range []bots.New{{ID: id, Name: "victim"}, {ID: "other", Name: strings.ToUpper(id)}, {ID: "one", Name: "twice"}, {ID: "two", Name: "twice"}, {ID: "twice-not", Name: "one"}} {
		_, err := s.Create(t.Context(), in)
		require.NoError(t, err)
	}
	for nameOrID, want := range map[string]string{
		id: id, strings.ToUpper(id): id, "victim": id, "other": "other", "one": "one",
	} {
		got, err := s.Find(t.Context(), nameOrID)
		require.NoError(t, err, nameOrID)
		require.Equal(t, want, got, nameOrID)
	}
	_, err := s.Find(t.Context(), "twice")
	require.Equal(t, problem.Conflict, problem.Of(err).Kind)
	_, err = s.Find(t.Context(), "nobody")
	require.Equal(t, problem.NotFound, problem.Of(err).Kind)
}

// TestNamesAreReadable: they are printed to terminals, and stand in lists.
func TestNamesAreReadable(t *testing.T) {
	s := &bots.Service{Pool: dbtest.New(t)}
	made, err := s.Create(t.Context(), bots.New{Name: "euler"})
	require.NoError(t, err)
	for _, name := range []string{"\x1b[31mred", "a\u202eb", "a\u200bb", "a\x00b"} {
		_, err := s.Create(t.Context(), bots.New{Name: name})
		require.ErrorContains(t, err, "name: ", "%q", name)
		_, _, err = s.CreateKey(t.Context(), made.ID, name)
		require.Equal(t, problem.Invalid, problem.Of(err).Kind, "%q", name)
		_, _, err = s.CreatePortalLink(t.Context(), made.ID, bots.PortalLink{Role: bots.View, Label: name})
		require.ErrorContains(t, err, "label: ", "%q", name)
	}
}
