package bots_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/internal/audit"
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
	t.Run("WhatIsEqualIsNoChange", func(t *testing.T) {
		same := bots.Change{NotifyChange: bots.NotifyChange{SetURL: true, URL: &url, Secret: made.NotifySecret}}
		bot, err := whole.Update(t.Context(), made.ID, same)
		require.NoError(t, err)
		require.Equal(t, &url, bot.NotifyURL)
		other := webhook.NewSecret()
		_, err = whole.Update(t.Context(), made.ID, bots.Change{NotifyChange: bots.NotifyChange{Secret: &other}})
		require.NoError(t, err)
		entries, _, err := (&audit.Reader{Pool: pool}).List(t.Context(), made.ID, uuid.Nil)
		require.NoError(t, err)
		require.Equal(t, audit.Fields{"notifySecret": "replaced"}, entries[0].After)
		require.Equal(t, audit.BotSuspended, entries[1].Action, "no entry says that what was equal was replaced")
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

func TestService_Update_SuspensionHasAReason(t *testing.T) {
	pool := dbtest.New(t)
	s := &bots.Service{Pool: pool}
	_, err := s.Create(t.Context(), bots.New{ID: "euler", Name: "euler"})
	require.NoError(t, err)
	_, secret, err := s.CreateKey(t.Context(), "euler", "")
	require.NoError(t, err)
	set := func(active bool, reason string) (bots.Bot, error) {
		change := bots.Change{IsActive: &active}
		if reason != "" {
			change.SuspendedReason = &reason
		}
		return s.Update(t.Context(), "euler", change)
	}
	bot, err := set(false, "")
	require.NoError(t, err)
	require.Nil(t, bot.SuspendedReason)
	since := *bot.SuspendedAt
	bot, err = set(false, "leaked its key")
	require.NoError(t, err)
	require.Equal(t, "leaked its key", *bot.SuspendedReason)
	require.Equal(t, since, *bot.SuspendedAt, "it was suspended before")
	bot, err = set(false, "")
	require.NoError(t, err)
	require.Equal(t, "leaked its key", *bot.SuspendedReason, "it stays")

	key, err := s.ByKey(t.Context(), bots.HashKey(secret))
	require.NoError(t, err)
	require.EqualError(t, s.CheckKey(t.Context(), key.ID), "The bot is suspended. Reason: leaked its key")
	_, _, err = s.CreatePortalLink(t.Context(), "euler", bots.PortalLink{Role: bots.View})
	require.EqualError(t, err, "The bot is suspended. Reason: leaked its key")

	for _, wrong := range []string{"", strings.Repeat("x", 201), "\x1b[31m"} {
		active := false
		_, err = s.Update(t.Context(), "euler", bots.Change{IsActive: &active, SuspendedReason: &wrong})
		require.ErrorContains(t, err, "suspendedReason: ", "%q", wrong)
	}
	_, err = set(true, "why not")
	require.ErrorContains(t, err, "suspendedReason: ")
	bot, err = set(true, "")
	require.NoError(t, err)
	require.Nil(t, bot.SuspendedReason)
	require.Nil(t, bot.SuspendedAt)

	entries, _, err := (&audit.Reader{Pool: pool}).List(t.Context(), "euler", uuid.Nil)
	require.NoError(t, err)
	var actions []audit.Action
	for _, e := range entries {
		actions = append(actions, e.Action)
	}
	require.Equal(t, []audit.Action{audit.BotReactivated, audit.BotUpdated, audit.BotSuspended, audit.KeyCreated, audit.BotCreated}, actions)
	require.Equal(t, "leaked its key", entries[1].After["suspendedReason"])
	require.Nil(t, entries[0].After["suspendedReason"])
	require.Equal(t, "leaked its key", entries[0].Before["suspendedReason"])
}

// TestService_Delete: nothing of a bot is left but its deliveries, which workers remove, and what the audit log says.
func TestService_Delete(t *testing.T) {
	pool := dbtest.New(t)
	s := &bots.Service{Pool: pool}
	for _, id := range []string{"gone", "stays"} {
		_, err := s.Create(t.Context(), bots.New{ID: id, Name: id})
		require.NoError(t, err)
		_, _, err = s.CreateKey(t.Context(), id, "")
		require.NoError(t, err)
		_, _, err = s.CreatePortalLink(t.Context(), id, bots.PortalLink{Role: bots.View})
		require.NoError(t, err)
	}
	for _, sql := range []string{
		"INSERT INTO webhooks (id, bot_id, url, origin, events) SELECT gen_random_uuid(), b.id, '', '', '{post.created}' FROM bots b, generate_series(1, 2)",
		"INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at) SELECT id, 'e', 1, 1, 'event', now() FROM webhooks",
		`INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, duration_ms, attempted_at) SELECT ` + dbtest.DeliveryID("now()") + `, id, 'e', 1, true, 1, now() FROM webhooks`,
		`INSERT INTO recoveries (id, webhook_id, since, until, begin_at, upto, after_time) SELECT gen_random_uuid(), id, now(), now(), now(), now(), now() FROM webhooks`,
	} {
		_, err := pool.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	require.NoError(t, s.Delete(t.Context(), "gone"))
	for table, want := range map[string]int{"bots": 1, "api_keys": 1, "portal_links": 1, "webhooks": 2, "subscriptions": 2, "queue": 2, "recoveries": 2, "history_usage": 2, "deliveries": 4} {
		var n int
		require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&n))
		require.Equal(t, want, n, table)
	}
	entries, _, err := (&audit.Reader{Pool: pool}).List(t.Context(), "gone", uuid.Nil)
	require.NoError(t, err)
	require.Equal(t, audit.BotDeleted, entries[0].Action)
	require.EqualValues(t, 2, entries[0].Before["webhooks"])
	for _, id := range []string{"gone", "nobody", "no id!"} {
		require.Equal(t, problem.NotFound, problem.Of(s.Delete(t.Context(), id)).Kind, id)
	}
}

func TestService_FindKeys(t *testing.T) {
	pool := dbtest.New(t)
	s := &bots.Service{Pool: pool}
	_, err := s.Create(t.Context(), bots.New{ID: "euler", Name: "euler"})
	require.NoError(t, err)
	by := audit.As(t.Context(), audit.Actor{Kind: audit.Portal, Name: "Ada"})
	key, secret, err := s.CreateKey(by, "euler", "laptop")
	require.NoError(t, err)
	_, _, err = s.CreateKey(t.Context(), "euler", "other")
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), "UPDATE api_keys SET prefix = 'bot_a_cdef' WHERE id = $1", key.ID)
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), "UPDATE api_keys SET prefix = 'bot_abcdef' WHERE id <> $1", key.ID)
	require.NoError(t, err)
	for text, want := range map[string][]string{
		secret:          {"laptop"},
		"bot_a_":        {"laptop"}, // no pattern
		"bot_a_cdefGHI": {"laptop"},
		"bot_abcdef":    {"other"},
		"bot_zz":        {},
	} {
		keys, err := s.FindKeys(t.Context(), text)
		require.NoError(t, err, text)
		names := []string{}
		for _, k := range keys {
			names = append(names, k.Name)
			require.Equal(t, "euler", k.BotID)
		}
		require.Equal(t, want, names, text)
	}
	keys, err := s.FindKeys(t.Context(), secret)
	require.NoError(t, err)
	require.Equal(t, audit.Actor{Kind: audit.Portal, Name: "Ada"}, keys[0].CreatedBy)
	require.NoError(t, s.RevokeKey(t.Context(), "euler", key.ID))
	keys, err = s.FindKeys(t.Context(), secret)
	require.NoError(t, err)
	require.Empty(t, keys, "a revoked key is nobody's, whatever begins alike")
	_, err = pool.Exec(t.Context(), `INSERT INTO api_keys (id, bot_id, key_hash, name, prefix)
		SELECT gen_random_uuid(), 'euler', sha256(n::text::bytea), '', 'bot_many' || lpad(n::text, 2, '0') FROM generate_series(0, 99) AS n`)
	require.NoError(t, err)
	keys, err = s.FindKeys(t.Context(), "bot_many")
	require.NoError(t, err)
	require.Len(t, keys, 100)
	_, err = pool.Exec(t.Context(), "INSERT INTO api_keys (id, bot_id, key_hash, name, prefix) VALUES (gen_random_uuid(), 'euler', sha256('x'), '', 'bot_many__')")
	require.NoError(t, err)
	_, err = s.FindKeys(t.Context(), "bot_many")
	require.EqualError(t, err, "invalid key: must have more of the key, up to its first 10 characters: more than 100 keys begin so")
	for _, wrong := range []string{"", "bot_", "bot_x", "key_abc", "bot_a%", "bot_a\x00b", secret + "x"} {
		_, err := s.FindKeys(t.Context(), wrong)
		require.ErrorContains(t, err, "key: ", "%q", wrong)
		if len(wrong) > 5 {
			require.NotContains(t, err.Error(), wrong)
		}
	}
}

// TestACommitThatIsNotAnswered may be done all the same: nobody is told that it was not.
func TestACommitThatIsNotAnswered(t *testing.T) {
	pool := dbtest.New(t)
	s := &bots.Service{Pool: pool}
	_, err := pool.Exec(t.Context(), `
		CREATE FUNCTION commit_slowly() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN NULL; END';
		CREATE CONSTRAINT TRIGGER commit_slowly AFTER INSERT ON bots DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION commit_slowly()`)
	require.NoError(t, err)
	failed := make(chan error, 1)
	go func() {
		_, err := s.Create(t.Context(), bots.New{Name: "euler"})
		failed <- err
	}()
	require.Eventually(t, func() bool {
		var ended int
		err := pool.QueryRow(t.Context(), "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query = 'commit' AND wait_event = 'PgSleep'").Scan(&ended)
		return err == nil && ended == 1
	}, time.Minute, 10*time.Millisecond)
	e := problem.Of(<-failed)
	require.Equal(t, problem.Unavailable, e.Kind)
	require.Equal(t, "The database did not answer in time. A change may have been made: check, then try again.", e.Detail)
	_, err = (&bots.Service{Pool: closedPool(t)}).Get(t.Context(), "euler")
	require.Equal(t, "The database does not answer; nothing was done. Try again.", problem.Of(err).Detail)
}

// closedPool leads to a port where nothing listens.
func closedPool(t *testing.T) *pgxpool.Pool {
	pool, err := pgxpool.New(t.Context(), "postgres://u@127.0.0.1:1/x")
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}
