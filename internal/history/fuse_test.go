package history

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/webhook"
)

// ours is a class of failure that a fault of our own network looks like, and theirs one that only an answer makes.
var ours, theirs = func() (ours, theirs string) {
	for _, class := range egress.Classes {
		if egress.CouldBeOurs(class) {
			ours = class
		}
	}
	return ours, "http_5xx"
}()

// fuseBox is a number of webhooks that fail.
type fuseBox struct {
	*Recorder
	pool *pgxpool.Pool
	ids  []uuid.UUID
}

// newFuseBox adds webhooks, at that many hosts.
func newFuseBox(t *testing.T, webhooks, hosts int) *fuseBox {
	pool := dbtest.New(t)
	r, _ := newTestRecorder(t, pool)
	b := &fuseBox{r, pool, nil}
	for i := range webhooks {
		b.ids = append(b.ids, addWebhookAt(t, pool, fmt.Sprintf("https://host-%d.example/%d", i%hosts, i)))
	}
	return b
}

// fail has a webhook fail ten times in a row, and says whether it is active still.
func (b *fuseBox) fail(t *testing.T, i int, class string) bool {
	t.Helper()
	for range webhook.MaxFailures {
		b.failOnce(t, i, class)
	}
	return stateOf(t, b.pool, b.ids[i]).Active
}

func (b *fuseBox) failOnce(t *testing.T, i int, class string) {
	t.Helper()
	a := prepared(t, b.pool, b.ids[i], false)
	a.StatusCode, a.Error, a.Class = 0, class, class
	record(t, b.Recorder, a)
}

func (b *fuseBox) blown(t *testing.T) int { return count(t, b.pool, "fuses WHERE reset_at IS NULL") }

func TestRecorder_Fuse(t *testing.T) {
	t.Parallel()

	t.Run("BlowsAtAFifthOfTheWebhooks", func(t *testing.T) {
		t.Parallel()
		b := newFuseBox(t, 29, 29)
		for i := range 5 { // five of 29 are less than a fifth
			require.False(t, b.fail(t, i, ours), "webhook %d", i)
			require.Zero(t, b.blown(t))
		}
		require.True(t, b.fail(t, 5, ours), "the sixth would be more than a fifth")
		require.Equal(t, 1, b.blown(t))
		for i := 6; i < 10; i++ {
			require.True(t, b.fail(t, i, ours), "from then on none is disabled")
		}
		b.failOnce(t, 9, ours)
		s := stateOf(t, b.pool, b.ids[9])
		require.Equal(t, int32(webhook.MaxFailures+1), s.FailureCount, "they fail all the same")
		require.InDelta(t, heldRest, s.ResumeIn, float64(2*time.Second), "and are attempted rarely")
		require.False(t, b.fail(t, 10, theirs), "another class disables as ever")
	})

	// One bot has any number of names at hand, and whatever share of a small installation its webhooks are.
	t.Run("DoesNotBlowForOneBotAmongOthers", func(t *testing.T) {
		t.Parallel()
		b := newFuseBox(t, 10, 10)
		for i := range 5 {
			b.ids = append(b.ids, addWebhookOf(t, b.pool, fmt.Sprint("other", i), "https://other.example/"))
		}
		for i := range 11 {
			require.False(t, b.fail(t, i, ours), "webhook %d", i)
		}
		require.Zero(t, b.blown(t), "two bots are not many")
		require.True(t, b.fail(t, 11, ours))
		require.Equal(t, 1, b.blown(t))
	})

	t.Run("BlowsByPostgresClock", func(t *testing.T) {
		t.Parallel()
		b := newFuseBox(t, 10, 10)
		dbtest.SetClock(t, b.pool, -10*time.Minute)
		disabled := 0
		for i := range 5 {
			if !b.fail(t, i, ours) {
				disabled++
			}
		}
		require.Equal(t, 4, disabled)
		require.Equal(t, 1, b.blown(t), "whatever this process's clock shows")
	})

	t.Run("EnablesAgainWhatItDisabledBefore", func(t *testing.T) {
		t.Parallel()
		b := newFuseBox(t, 20, 20)
		require.False(t, b.fail(t, 10, ours))
		execute(t, b.pool, "UPDATE webhooks SET disabled_at = now() - interval '6 minutes' WHERE id = $1", b.ids[10]) // of long before
		require.False(t, b.fail(t, 11, theirs))
		for i := range 4 {
			require.False(t, b.fail(t, i, ours))
		}
		require.NoError(t, b.UndoFused(t.Context()))
		require.False(t, stateOf(t, b.pool, b.ids[0]).Active, "no fuse is blown")
		require.True(t, b.fail(t, 4, ours))
		disabledAt := *stateOf(t, b.pool, b.ids[0]).DisabledAt
		for range 2 { // it may be repeated
			require.NoError(t, b.UndoFused(t.Context()))
			for i := range 4 {
				s := stateOf(t, b.pool, b.ids[i])
				require.True(t, s.Active)
				require.True(t, s.Queued)
				require.Nil(t, s.DisabledReason)
				require.False(t, s.DisabledBy.Valid)
				require.Equal(t, []int32{0, 1}, []int32{s.FailureCount, s.Generation}, "what failed before counts no more")
			}
			require.Equal(t, 4, count(t, b.pool, "recoveries WHERE state = 'running'"))
		}
		recovery := latest(t, b.pool, b.ids[0])
		require.Equal(t, disabledAt, recovery.BeginAt, "what was missed comes first")
		require.WithinDuration(t, disabledAt.Add(-MissedBefore), recovery.Since, time.Millisecond)
		require.False(t, stateOf(t, b.pool, b.ids[10]).Active)
		require.False(t, stateOf(t, b.pool, b.ids[11]).Active)
		require.Zero(t, count(t, b.pool, "recoveries WHERE webhook_id = ANY ($1)", b.ids[10:12]))
	})

	t.Run("EnablesWhatIsSuspendedForAfterwards", func(t *testing.T) {
		t.Parallel()
		b := newFuseBox(t, 20, 20)
		for i := range 4 {
			require.False(t, b.fail(t, i, ours))
		}
		execute(t, b.pool, "UPDATE webhooks SET suspended = true WHERE id = $1", b.ids[0])
		require.True(t, b.fail(t, 4, ours))
		require.NoError(t, b.UndoFused(t.Context()))
		require.True(t, stateOf(t, b.pool, b.ids[0]).Active, "no fault of ours is left once the suspension ends")
		require.Zero(t, count(t, b.pool, "subscriptions WHERE webhook_id = $1", b.ids[0]))
		require.Zero(t, count(t, b.pool, "recoveries WHERE webhook_id = $1", b.ids[0]))
		require.Equal(t, 3, count(t, b.pool, "recoveries WHERE state = 'running'"))
	})

	t.Run("WhoeverEnablesAtTheSameTimeIsNotInTheWay", func(t *testing.T) {
		t.Parallel()
		b := newFuseBox(t, 20, 20)
		for i := range 5 {
			b.fail(t, i, ours)
		}
		// The owner of the first enables it and recovers it by himself, after what is to be undone was read.
		since := time.Now().Add(-fuseSpan)
		rows, err := b.queries.DisabledByClass(t.Context(), b.pool, db.DisabledByClassParams{Class: ours, Since: &since})
		require.NoError(t, err)
		require.Len(t, rows, 4)
		execute(t, b.pool, "UPDATE webhooks SET is_active = true, failure_count = 0, disabled_reason = NULL, disabled_by = NULL, generation = generation + 1 WHERE id = $1", rows[0].ID)
		startRecovery(t, Queue{Pool: b.pool}, lastDay(rows[0].ID))
		for _, row := range rows {
			require.NoError(t, b.undo(t.Context(), row, ours))
		}
		require.Equal(t, int32(1), stateOf(t, b.pool, rows[0].ID).Generation)
		require.Equal(t, 4, count(t, b.pool, "recoveries"))
	})

	t.Run("SuccessResetsIt", func(t *testing.T) {
		t.Parallel()
		b := newFuseBox(t, 20, 20)
		for i := range 6 {
			b.fail(t, i, ours)
		}
		require.Equal(t, 1, b.blown(t))
		record(t, b.Recorder, prepared(t, b.pool, b.ids[15], true))
		require.Equal(t, 1, b.blown(t), "one that never failed shows nothing")
		b.failOnce(t, 16, theirs)
		record(t, b.Recorder, prepared(t, b.pool, b.ids[16], true))
		require.Equal(t, 1, b.blown(t), "nor does one that failed otherwise")
		record(t, b.Recorder, prepared(t, b.pool, b.ids[5], true))
		require.Zero(t, b.blown(t))
	})

	t.Run("ResetBeforeTheSweepLosesNothing", func(t *testing.T) {
		t.Parallel()
		b := newFuseBox(t, 20, 20)
		for i := range 5 {
			b.fail(t, i, ours)
		}
		require.Equal(t, 1, b.blown(t))
		record(t, b.Recorder, prepared(t, b.pool, b.ids[4], true)) // before anyone came to undo it
		require.Zero(t, b.blown(t))
		execute(t, b.pool, "UPDATE fuses SET reset_at = now() - interval '5 minutes', blown_at = now() - interval '6 minutes'")
		execute(t, b.pool, "UPDATE webhooks SET disabled_at = now() - interval '7 minutes' WHERE NOT is_active")
		require.False(t, b.fail(t, 19, ours), "the class disables again")
		require.NoError(t, b.UndoFused(t.Context()))
		for i := range 4 {
			require.True(t, stateOf(t, b.pool, b.ids[i]).Active)
		}
		require.Equal(t, 4, count(t, b.pool, "recoveries WHERE state = 'running'"))
		require.False(t, stateOf(t, b.pool, b.ids[19]).Active, "it was disabled after the reset")
		require.Zero(t, count(t, b.pool, "fuses"), "there is nothing more to undo")
	})

	t.Run("BlownAgainBeforeTheSweepItUndoesBoth", func(t *testing.T) {
		t.Parallel()
		b := newFuseBox(t, 20, 20)
		for i := range 5 {
			b.fail(t, i, ours)
		}
		record(t, b.Recorder, prepared(t, b.pool, b.ids[4], true))
		require.Zero(t, b.blown(t))
		require.True(t, b.fail(t, 5, ours), "those of before count still")
		require.Equal(t, 1, b.blown(t))
		require.NoError(t, b.UndoFused(t.Context()))
		require.Zero(t, count(t, b.pool, "webhooks WHERE NOT is_active"))
		require.Equal(t, 1, b.blown(t))
	})

	t.Run("WhatADisabledWebhookMeetsLaterIsNotWhyItIs", func(t *testing.T) {
		t.Parallel()
		b := newFuseBox(t, 20, 20)
		for i := range 4 {
			b.fail(t, i, ours)
			b.failOnce(t, i, theirs) // it was in flight
		}
		require.True(t, b.fail(t, 4, ours))
		require.NoError(t, b.UndoFused(t.Context()))
		require.Zero(t, count(t, b.pool, "webhooks WHERE NOT is_active"))
	})

	t.Run("EnablingIsInTheAuditLogAsTheSystems", func(t *testing.T) {
		t.Parallel()
		b := newFuseBox(t, 20, 20)
		for i := range 5 {
			b.fail(t, i, ours)
		}
		require.NoError(t, b.UndoFused(t.Context()))
		const entries = "audit_log WHERE subject = $1 AND actor_kind = 'system' AND bot_id = 'bot' AND action = $2"
		for i := range 4 {
			require.Equal(t, 1, count(t, b.pool, entries+" AND convert_from(after, 'utf8')::jsonb @> jsonb_build_object('isActive', true, 'fuse', $3::text)", b.ids[i].String(), "webhook.enabled", ours))
			require.Equal(t, 1, count(t, b.pool, entries, b.ids[i].String(), "recovery.started"))
		}
	})

	t.Run("FourHostsDoNotBlowIt", func(t *testing.T) {
		t.Parallel()
		b := newFuseBox(t, 20, 4)
		for i := range 12 {
			require.False(t, b.fail(t, i, ours), "webhook %d", i)
		}
		require.Zero(t, b.blown(t))
	})

	t.Run("PortsOfOneHostAreOneHost", func(t *testing.T) {
		t.Parallel()
		b := newFuseBox(t, 20, 20)
		execute(t, b.pool, "UPDATE webhooks SET origin = 'https://host.example:' || (10000 + random() * 10000)::integer")
		for i := range 8 {
			require.False(t, b.fail(t, i, ours), "webhook %d", i)
		}
		require.Zero(t, b.blown(t))
	})

	t.Run("SuccessAtAnAddressShowsNothingOfTheResolver", func(t *testing.T) {
		t.Parallel()
		b := newFuseBox(t, 20, 20)
		for i := range 5 {
			b.fail(t, i, "dns")
		}
		require.Equal(t, 1, b.blown(t))
		for i, origin := range []string{"https://192.0.2.1", "https://192.0.2.1:8443", "https://[2001:db8::1]:8443"} {
			b.failOnce(t, 10+i, "dns")
			execute(t, b.pool, "UPDATE webhooks SET origin = $2 WHERE id = $1", b.ids[10+i], origin)
			record(t, b.Recorder, prepared(t, b.pool, b.ids[10+i], true))
			require.Equal(t, 1, b.blown(t), origin)
		}
		record(t, b.Recorder, prepared(t, b.pool, b.ids[4], true))
		require.Zero(t, b.blown(t))
	})

	t.Run("OneThatCannotBeEnabledKeepsNoOther", func(t *testing.T) {
		t.Parallel()
		b := newFuseBox(t, 20, 20)
		for i := range 5 {
			b.fail(t, i, ours)
		}
		execute(t, b.pool, "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$")
		execute(t, b.pool, fmt.Sprintf("CREATE TRIGGER refuse BEFORE UPDATE ON webhooks FOR EACH ROW WHEN (OLD.id = '%s') EXECUTE FUNCTION refuse()", b.ids[1]))
		require.ErrorContains(t, b.UndoFused(t.Context()), b.ids[1].String())
		require.Equal(t, 1, count(t, b.pool, "webhooks WHERE NOT is_active"))
	})

	t.Run("AnAnswerNeverBlowsIt", func(t *testing.T) {
		t.Parallel()
		b := newFuseBox(t, 10, 10)
		for i := range 10 {
			require.False(t, b.fail(t, i, theirs))
		}
		require.Zero(t, b.blown(t))
	})

	t.Run("FailuresRecordedTogetherCountTogether", func(t *testing.T) {
		t.Parallel()
		b := newFuseBox(t, 20, 20)
		for i := range 10 {
			for range webhook.MaxFailures - 1 {
				b.failOnce(t, i, ours)
			}
		}
		var batch []*recording
		for i := range 10 {
			a := prepared(t, b.pool, b.ids[i], false)
			a.Error, a.Class = ours, ours
			batch = append(batch, &recording{attempt: a, done: make(chan struct{})})
		}
		b.flush(batch)
		require.Equal(t, 1, b.blown(t))
		require.Equal(t, 4, count(t, b.pool, "webhooks WHERE NOT is_active"), "the fifth blew it")
		require.NoError(t, b.UndoFused(t.Context()))
		require.Zero(t, count(t, b.pool, "webhooks WHERE NOT is_active"))
	})

	t.Run("WhatABatchDisablesIsCountedOnce", func(t *testing.T) {
		t.Parallel()
		b := newFuseBox(t, 60, 60)
		execute(t, b.pool, "UPDATE webhooks SET failure_count = 9, early_failures = 5, failure_run = 1, failing_since = now()")
		var batch []*recording
		for i := range 10 {
			a := prepared(t, b.pool, b.ids[i], false)
			a.Error, a.Class = ours, ours
			batch = append(batch, &recording{attempt: a, done: make(chan struct{})})
		}
		looks := new(countingDB)
		require.NoError(t, db.WithTx(t.Context(), b.pool, func(tx pgx.Tx) error {
			looks.Tx = tx
			_, err := b.Recorder.record(t.Context(), looks, batch)
			return err
		}))
		require.Equal(t, 10, count(t, b.pool, "webhooks WHERE NOT is_active"))
		require.Equal(t, 1, looks.n, "all webhooks are counted once, however many are disabled")
	})
}

// countingDB counts how often all active webhooks are counted.
type countingDB struct {
	pgx.Tx
	n int
}

func (c *countingDB) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if strings.Contains(sql, "name: CountActiveWebhooks ") {
		c.n++
	}
	return c.Tx.QueryRow(ctx, sql, args...)
}
