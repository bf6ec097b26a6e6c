package db_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
)

func parse(t *testing.T, text string) *db.Keyset {
	t.Helper()
	keyset, err := db.ParseKeyset(text)
	require.NoError(t, err)
	return keyset
}

func TestARotatedKeysetOpensWhatTheOldOneSealed(t *testing.T) {
	t.Parallel()
	id := uuid.New()
	first, text := newKeyset(t)
	sealed, err := first.Seal(id, "s3cret")
	require.NoError(t, err)
	rotated, err := db.RotateKeyset(text, false)
	require.NoError(t, err)
	opened, err := parse(t, rotated).Open(id, sealed)
	require.NoError(t, err)
	require.Equal(t, "s3cret", opened)
	anew, err := parse(t, rotated).Seal(id, "s3cret")
	require.NoError(t, err)
	_, err = first.Open(id, anew)
	require.Error(t, err, "the fresh key seals")

	// In two steps: every process opens what any of them seals, at every moment.
	waiting, err := db.RotateKeyset(text, true)
	require.NoError(t, err)
	byWaiting, err := parse(t, waiting).Seal(id, "s3cret")
	require.NoError(t, err)
	_, err = first.Open(id, byWaiting)
	require.NoError(t, err)
	_, err = db.RotateKeyset(waiting, true)
	require.ErrorContains(t, err, "--later")
	promoted, err := db.RotateKeyset(waiting, false)
	require.NoError(t, err)
	byPromoted, err := parse(t, promoted).Seal(id, "s3cret")
	require.NoError(t, err)
	_, err = parse(t, waiting).Open(id, byPromoted)
	require.NoError(t, err)
	_, err = first.Open(id, byPromoted)
	require.Error(t, err)

	pruned, err := db.PruneKeyset(promoted)
	require.NoError(t, err)
	_, err = parse(t, pruned).Open(id, byPromoted)
	require.NoError(t, err)
	_, err = parse(t, pruned).Open(id, sealed)
	require.Error(t, err)
	for _, change := range []func(string) (string, error){db.PruneKeyset, func(s string) (string, error) { return db.RotateKeyset(s, false) }} {
		_, err = change("nonsense")
		require.ErrorContains(t, err, "keyset new")
		_, err = change("e30=")
		require.ErrorContains(t, err, "keyset new")
	}
}

func store(t *testing.T, pool *pgxpool.Pool, keyset *db.Keyset, secret, previous string, until time.Duration) uuid.UUID {
	t.Helper()
	id := uuid.New()
	seal := func(secret string) []byte {
		if secret == "" {
			return nil
		}
		sealed, err := keyset.Seal(id, secret)
		require.NoError(t, err)
		return sealed
	}
	_, err := pool.Exec(t.Context(), "INSERT INTO bots (id, name) VALUES ('bot', 'bot') ON CONFLICT DO NOTHING")
	require.NoError(t, err)
	url, err := keyset.SealURL(id, hookURL)
	require.NoError(t, err)
	extras, err := keyset.SealExtras(id, db.Extras{Headers: hookHeaders})
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `
		INSERT INTO webhooks (id, bot_id, url, origin, events, secret, previous_secret, previous_secret_until, extras)
		VALUES ($1, 'bot', $5, 'https://example.com', '{mention}', $2, $3, CASE WHEN $3::bytea IS NOT NULL THEN now() + $4::interval END, $6)`,
		id, seal(secret), seal(previous), fmt.Sprintf("%d seconds", int(until.Seconds())), url, extras)
	require.NoError(t, err)
	return id
}

const hookURL = "https://example.com/token"

var hookHeaders = map[string]string{"Authorization": "Bearer token"}

// secrets are what a keyset opens of a webhook's two secrets; it opens its URL and its own headers too.
func secrets(t *testing.T, pool *pgxpool.Pool, keyset *db.Keyset, id uuid.UUID) (opened [2]string) {
	t.Helper()
	var sealed [2][]byte
	var sealedURL, sealedExtras []byte
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT url, extras, secret, previous_secret FROM webhooks WHERE id = $1", id).Scan(&sealedURL, &sealedExtras, &sealed[0], &sealed[1]))
	extras, err := keyset.OpenExtras(id, sealedExtras)
	require.NoError(t, err)
	require.Equal(t, hookHeaders, extras.Headers)
	url, err := keyset.OpenURL(id, sealedURL)
	require.NoError(t, err)
	require.Equal(t, hookURL, url)
	for i, s := range sealed {
		if s == nil {
			continue
		}
		var err error
		opened[i], err = keyset.Open(id, s)
		require.NoError(t, err)
	}
	return opened
}

func TestSecretsAreSealedAnewWithTheNewestKey(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	first, text := newKeyset(t)
	var many []uuid.UUID
	for i := range 250 { // more than a page
		many = append(many, store(t, pool, first, fmt.Sprint("secret ", i), "", 0))
	}
	unsigned := store(t, pool, first, "", "", 0)
	overlapping := store(t, pool, first, "new", "old", time.Hour)
	over := store(t, pool, first, "new", "old", -time.Second)
	stranger, _ := newKeyset(t)
	stuck := store(t, pool, stranger, "lost", "", 0)

	theirs, err := stranger.SealNotifyURL("euler", "https://example.com/notify")
	require.NoError(t, err)
	ours, err := first.SealNotify("euler", "secret")
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), "INSERT INTO bots (id, name, notify_url, notify_secret) VALUES ('euler', 'Euler', $1, $2)", theirs, ours)
	require.NoError(t, err)
	unopened, _, err := db.Unopened(t.Context(), pool, first, 1000)
	require.NoError(t, err)
	require.Equal(t, []string{"the URL of webhook " + stuck.String(), "the secret of webhook " + stuck.String(), "the headers and keys of webhook " + stuck.String(), "the notify URL of bot euler"}, unopened)
	_, err = pool.Exec(t.Context(), "DELETE FROM bots WHERE id = 'euler'")
	require.NoError(t, err)

	changed, err := db.Reseal(t.Context(), pool, first)
	require.ErrorIs(t, err, db.ErrDoesNotOpen)
	require.ErrorContains(t, err, "1 webhooks")
	require.Equal(t, 1, changed, "only what was over is forgotten")
	require.Equal(t, [2]string{"new", ""}, secrets(t, pool, first, over))

	rotated, err := db.RotateKeyset(text, false)
	require.NoError(t, err)
	second := parse(t, rotated)
	needed, err := db.SealedOtherwise(t.Context(), pool, second)
	require.NoError(t, err)
	require.True(t, needed)
	changed, err = db.Reseal(t.Context(), pool, second)
	require.ErrorIs(t, err, db.ErrDoesNotOpen)
	require.Equal(t, len(many)+3, changed, "one has no secret, but a URL")
	_, err = pool.Exec(t.Context(), "DELETE FROM webhooks WHERE id = $1", stuck)
	require.NoError(t, err)
	needed, err = db.SealedOtherwise(t.Context(), pool, second)
	require.NoError(t, err)
	require.False(t, needed)

	pruned, err := db.PruneKeyset(rotated)
	require.NoError(t, err)
	alone := parse(t, pruned)
	for i, id := range many {
		require.Equal(t, [2]string{fmt.Sprint("secret ", i), ""}, secrets(t, pool, alone, id))
	}
	require.Equal(t, [2]string{"new", "old"}, secrets(t, pool, alone, overlapping))
	require.Equal(t, [2]string{"", ""}, secrets(t, pool, alone, unsigned))
	changed, err = db.Reseal(t.Context(), pool, alone)
	require.NoError(t, err)
	require.Zero(t, changed)
}

func TestNotifyURLsAndSecretsAreSealedAnewWithTheNewestKey(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	first, text := newKeyset(t)
	add := func(keyset *db.Keyset, id string) {
		sealed, err := keyset.SealNotify(id, "secret of "+id)
		require.NoError(t, err)
		url, err := keyset.SealNotifyURL(id, "https://example.com/"+id)
		require.NoError(t, err)
		_, err = pool.Exec(t.Context(), "INSERT INTO bots (id, name, notify_url, notify_secret) VALUES ($1, 'bot', $2, $3)", id, url, sealed)
		require.NoError(t, err)
	}
	for i := range 150 { // more than a page
		add(first, fmt.Sprint("bot-", i))
	}
	_, err := pool.Exec(t.Context(), "INSERT INTO bots (id, name) VALUES ('silent', 'bot')")
	require.NoError(t, err)
	stranger, _ := newKeyset(t)
	add(stranger, "stuck")
	rotated, err := db.RotateKeyset(text, false)
	require.NoError(t, err)
	second := parse(t, rotated)
	changed, err := db.Reseal(t.Context(), pool, second)
	require.ErrorIs(t, err, db.ErrDoesNotOpen)
	require.Equal(t, 150, changed)
	needed, err := db.SealedOtherwise(t.Context(), pool, second)
	require.NoError(t, err)
	require.True(t, needed, "keyset prune would lose one")
	_, err = pool.Exec(t.Context(), "DELETE FROM bots WHERE id = 'stuck'")
	require.NoError(t, err)
	needed, err = db.SealedOtherwise(t.Context(), pool, second)
	require.NoError(t, err)
	require.False(t, needed)

	pruned, err := db.PruneKeyset(rotated)
	require.NoError(t, err)
	var sealed, sealedURL []byte
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT notify_url, notify_secret FROM bots WHERE id = 'bot-149'").Scan(&sealedURL, &sealed))
	opened, err := parse(t, pruned).OpenNotify("bot-149", sealed)
	require.NoError(t, err)
	require.Equal(t, "secret of bot-149", opened)
	url, err := parse(t, pruned).OpenNotifyURL("bot-149", sealedURL)
	require.NoError(t, err)
	require.Equal(t, "https://example.com/bot-149", url)
}
