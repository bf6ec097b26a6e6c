package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

func TestDeliverer_Accept(t *testing.T) {
	t.Parallel()

	t.Run("GoesToWhomItConcerns", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		mine := r.subscribe(t, "https://example.com/token", "")
		r.set(t, mine, "events = '{mention,post.created}'")
		r.execute(t, "INSERT INTO bots (id, name) VALUES ('other', 'other')")
		r.execute(t, "INSERT INTO webhooks (id, bot_id, url, origin, events) VALUES (gen_random_uuid(), 'other', 'https://example.com', 'https://example.com', '{mention,post.created}')")
		r.execute(t, "INSERT INTO webhooks (id, bot_id, url, origin, events, is_active) VALUES (gen_random_uuid(), 'other', 'https://example.com', 'https://example.com', '{mention,post.created}', false)")
		for _, c := range []struct {
			kind webhook.EventType
			bots []string
			want int
		}{
			{webhook.PostCreated, nil, 2},
			{webhook.PostCreated, []string{"bot"}, 1},
			{webhook.Mention, []string{"bot"}, 1},
			{webhook.Mention, []string{"bot", "other", "nobody"}, 2},
			{webhook.Mention, []string{"nobody"}, 0},
			{webhook.WikiEdited, nil, 0},
		} {
			e := webhook.Event{Type: c.kind, Data: json.RawMessage(`{}`), BotIDs: c.bots}.Complete(time.Now())
			a := r.accept(t, e, "run")
			require.Len(t, a.Targets, c.want, "%s to %v", c.kind, c.bots)
			if c.want == 1 {
				require.Equal(t, Target{WebhookID: mine, BotID: "bot", Host: "example.com"}, a.Targets[0])
			}
		}
	})

	t.Run("QueuedWebhooksGetItWithTheSameStatement", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		direct, queued, other := r.subscribe(t, "https://example.com", ""), r.subscribe(t, "https://example.org/secret", ""), r.subscribe(t, "https://example.net", "")
		r.set(t, queued, "queued = true")
		r.set(t, other, "queued = true")
		e := anEvent()
		a := r.accept(t, e, "run")
		require.Len(t, a.Targets, 1)
		require.Equal(t, direct, a.Targets[0].WebhookID)
		require.Equal(t, 2, a.Queued)
		require.Equal(t, 2, r.count(t, "queue q JOIN events e ON e.id = q.event_id AND e.xmin = q.xmin AND e.accepted_at = q.due_at"), "one transaction, and due since its acceptance")
		rows := r.planned(t, queued)
		require.Len(t, rows, 1)
		require.Equal(t, []any{1, 1, webhook.TriggerEvent}, []any{rows[0].Attempt, rows[0].Step, rows[0].Trigger})
		require.ElementsMatch(t, []uuid.UUID{queued, other}, r.taken())

		// Another event stands behind it, and wakes nobody: what is due is worked off already.
		r.accept(t, anEvent(), "run")
		require.Equal(t, e.ID, r.planned(t, queued)[0].EventID)
		require.Empty(t, r.taken())

		// A repeat adds nothing; where the queue has sent it meanwhile, it finds that.
		again := r.accept(t, e, "run")
		require.Equal(t, a, again)
		require.Len(t, r.planned(t, queued), 2)
		r.execute(t, "DELETE FROM queue WHERE event_id = $1", e.ID)
		for _, w := range []uuid.UUID{queued, other} {
			r.execute(t, "INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, duration_ms, attempted_at) VALUES ($1, $2, $3, 1, true, 1, now())", r.deliveryID(t, First(e.ID, w)), w, e.ID)
		}
		r.accept(t, e, "run")
		rows = r.planned(t, queued)
		require.Len(t, rows, 2)
		row := &rows[slices.IndexFunc(rows, func(r row) bool { return r.EventID == e.ID })].Row
		require.Equal(t, Result{Status: Delivered}, r.mustRun(t, Attempt{EventID: e.ID, WebhookID: queued, Number: 1, Trigger: webhook.TriggerEvent, row: row}))
		require.Len(t, r.planned(t, queued), 1)
	})

	t.Run("RepeatLeavesOutWhatWasServed", func(t *testing.T) {
		t.Parallel()
		r, well, bad := newRig(t), newReceiver(t, 200), newReceiver(t, 503)
		done, failed, left := r.subscribe(t, well.url, ""), r.subscribe(t, bad.url, ""), r.subscribe(t, well.url, "")
		ownFault := r.subscribe(t, well.url, "")
		e := anEvent()
		require.Len(t, r.accept(t, e, "run").Targets, 4)
		r.mustRun(t, First(e.ID, done))
		r.mustRun(t, First(e.ID, failed))
		r.plan(t, ownFault, e.ID, webhook.TriggerEvent, time.Minute)
		a := newRigOn(t, r.pool).accept(t, e, "run")
		require.Len(t, a.Targets, 1)
		require.Equal(t, left, a.Targets[0].WebhookID)
	})

	t.Run("AnotherRunIsADuplicate", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		id := r.subscribe(t, "https://example.com", "")
		e := anEvent()
		r.accept(t, e, "run")
		r.set(t, id, "queued = true")
		require.Equal(t, audience{EventAudience: EventAudience{Duplicate: true}}, r.accept(t, e, "another"))
		require.Empty(t, r.planned(t, id), "it is the owner's to deliver")
	})

	t.Run("TakesOverFromARunThatWasEnded", func(t *testing.T) {
		t.Parallel()
		type run struct{ workflowID, runID string }
		ended := map[run]bool{}
		asked := []run{}
		var fault error
		r := newRig(t, func(c *Config) {
			c.HasEnded = func(_ context.Context, workflowID, runID string) (bool, error) {
				asked = append(asked, run{workflowID, runID})
				return ended[run{workflowID, runID}], fault
			}
		})
		direct, queued := r.subscribe(t, "https://example.com", ""), r.subscribe(t, "https://example.com", "")
		e := anEvent()
		in := toAccept("first", e)
		in.WorkflowID = "a group's"
		_, err := r.Accept(t.Context(), in)
		require.NoError(t, err)
		require.Empty(t, asked)
		r.set(t, queued, "queued = true")

		fault = errors.New("Temporal is away")
		_, err = r.Accept(t.Context(), toAccept("second", e))
		require.ErrorIs(t, err, fault, "nobody knows: it is asked again")
		fault = nil
		require.True(t, r.accept(t, e, "second").Duplicate)
		require.Equal(t, run{"a group's", "first"}, asked[len(asked)-1])
		ended[run{"a group's", "first"}] = true
		a := r.accept(t, e, "second")
		require.False(t, a.Duplicate)
		require.Equal(t, 1, a.Queued)
		require.Len(t, a.Targets, 1)
		require.Equal(t, direct, a.Targets[0].WebhookID)
		require.Len(t, r.planned(t, queued), 1)
		require.Equal(t, []uuid.UUID{queued}, r.taken())

		require.True(t, r.accept(t, e, "third").Duplicate)
		require.Equal(t, run{"event-" + e.ID, "second"}, asked[len(asked)-1])
		require.True(t, r.accept(t, e, "first").Duplicate, "it comes too late")
	})

	t.Run("AsksOnceForTheOwnerOfMany", func(t *testing.T) {
		t.Parallel()
		var asked atomic.Int64
		r := newRig(t, func(c *Config) {
			c.HasEnded = func(context.Context, string, string) (bool, error) {
				asked.Add(1)
				return false, nil
			}
		})
		events := []webhook.Event{anEvent(), anEvent(), anEvent()}
		in := toAccept("first", events...)
		in.WorkflowID = "a group's"
		_, err := r.Accept(t.Context(), in)
		require.NoError(t, err)
		again, err := r.Accept(t.Context(), toAccept("second", events...))
		require.NoError(t, err)
		for _, e := range again.Events {
			require.True(t, e.Duplicate)
		}
		require.EqualValues(t, 1, asked.Load(), "a group may repeat a hundred of another's events")
	})

	t.Run("WhatItReadIsAsOldAsTheReading", func(t *testing.T) {
		t.Parallel()
		var asked time.Time // Temporal may take seconds to answer
		r := newRig(t, func(c *Config) {
			c.HasEnded = func(context.Context, string, string) (bool, error) {
				asked = time.Now()
				return false, nil
			}
		})
		id, known, fresh := r.subscribe(t, "https://example.com", ""), r.accepted(t), anEvent()
		_, err := r.Accept(t.Context(), toAccept("another", known, fresh))
		require.NoError(t, err)
		in, _ := r.prefetch.take(First(fresh.ID, id).key())
		require.True(t, in.readAt.Before(asked), "%v, %v", in.readAt, asked)
		require.False(t, in.readAt.IsZero())
	})

	t.Run("LargeAudienceIsPaged", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.execute(t, "INSERT INTO bots (id, name) SELECT 'bot-' || n, 'bot' FROM generate_series(0, 9) n")
		const audience = StepSize + 17
		const add = `INSERT INTO webhooks (id, bot_id, url, origin, events, queued) SELECT gen_random_uuid(), 'bot-' || n % 10, 'https://example.com', 'https://example.com', '{post.created}', n % 5 = 0 FROM generate_series(1, $1) n`
		r.execute(t, add, PageSize)
		a := r.accept(t, anEvent(), "run")
		require.Len(t, a.Targets, PageSize-PageSize/5)
		require.Empty(t, a.Pages)
		r.execute(t, add, audience-PageSize)
		r.execute(t, "DELETE FROM queue")
		r.taken()
		e := anEvent()
		pages := r.accept(t, e, "run").Pages
		require.Len(t, pages, 2)
		seen, queued := map[uuid.UUID]bool{}, 0
		for _, page := range pages {
			part, err := r.AddressPart(t.Context(), PartOfAudience{EventID: e.ID, Page: page})
			require.NoError(t, err)
			require.False(t, part.More)
			require.LessOrEqual(t, len(part.Targets)+part.Events[0].Queued, StepSize)
			queued += part.Events[0].Queued
			for _, target := range part.Targets {
				require.False(t, seen[target.WebhookID])
				seen[target.WebhookID] = true
			}
		}
		require.Equal(t, audience, len(seen)+queued)
		require.Equal(t, queued, r.count(t, "queue WHERE event_id = $1", e.ID))
		woken := map[uuid.UUID]bool{}
		for _, id := range r.taken() {
			woken[id] = true
		}
		require.Equal(t, queued, len(woken), "each queue is woken")
	})

	t.Run("EventsAcceptedOneByOneShareThePages", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		const audience, events = 20 * StepSize, 100
		r.execute(t, "INSERT INTO bots (id, name) VALUES ('bot', 'bot')")
		r.execute(t, `INSERT INTO webhooks (id, bot_id, url, origin, events) SELECT gen_random_uuid(), 'bot', 'https://example.com', 'https://example.com', '{post.created}' FROM generate_series(1, $1::int) n`, audience)
		for _, of := range []int{0, events} {
			in := toAccept("run", anEvent())
			in.Of = of
			a, err := r.Accept(t.Context(), in)
			require.NoError(t, err)
			if of == 0 {
				require.Len(t, a.Events[0].Pages, audience/StepSize)
			} else {
				require.LessOrEqual(t, len(a.Events[0].Pages), MaxPages/events, "or Temporal refuses so many children, for ever")
			}
		}
	})

	t.Run("AnyAudienceHasAThousandPagesAtMost", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		// The subscriptions of 400,000 webhooks, without these.
		const audience = 400_000
		r.execute(t, "ALTER TABLE subscriptions DROP CONSTRAINT subscriptions_webhook_id_fkey")
		r.execute(t, `INSERT INTO subscriptions (webhook_id, event_type, bot_id)
			SELECT ('00000000-0000-0000-0000-' || lpad(to_hex(n), 12, '0'))::uuid, 'post.created', 'bot-' || n % 2 FROM generate_series(1, $1::int) n`, audience)
		for _, bots := range [][]string{nil, {"bot-1"}} {
			pages, err := r.pages(t.Context(), storedEvent{ID: "e", Type: webhook.PostCreated, BotIDs: bots}, MaxPages, PageSize)
			require.NoError(t, err)
			require.LessOrEqual(t, len(pages), MaxPages)
			require.Greater(t, len(pages), MaxPages/2, "and no fewer than it takes")
			require.Equal(t, uuid.Nil, pages[0].After)
			for i, page := range pages[1:] {
				require.Equal(t, pages[i].Upto, page.After, "without gap or overlap")
			}
			require.Equal(t, uuid.Max, pages[len(pages)-1].Upto)
		}
	})
}

// TestDeliverer_AddressPart: a page that is larger than a step is gone through in steps, each webhook once.
func TestDeliverer_AddressPart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.execute(t, "INSERT INTO bots (id, name) VALUES ('bot', 'bot')")
	r.execute(t, `INSERT INTO webhooks (id, bot_id, url, origin, events) SELECT gen_random_uuid(), 'bot', 'https://example.com', 'https://example.com', '{post.created}' FROM generate_series(1, $1)`, 2*StepSize+14)
	to := newReceiver(t, 200)
	hook := r.subscribe(t, to.url, "")
	r.subscribe(t, to.url, "")
	r.subscribe(t, to.url, "")
	e := anEvent()
	r.accept(t, e, "run")
	seen := map[uuid.UUID]bool{}
	in := PartOfAudience{EventID: e.ID, Page: Page{Upto: uuid.Max}}
	for steps := 1; ; steps++ {
		part, err := r.AddressPart(t.Context(), in)
		require.NoError(t, err)
		for _, target := range part.Targets {
			require.False(t, seen[target.WebhookID])
			seen[target.WebhookID] = true
		}
		if !part.More {
			require.Equal(t, 3, steps)
			break
		}
		in.Page.After = part.Last
	}
	require.Len(t, seen, 2*StepSize+17)
	require.Len(t, r.prefetch.inputs, 3, "the attempts need not read what was read")

	require.Equal(t, Delivered, r.mustRun(t, First(e.ID, hook)).Status)
	clear(r.prefetch.inputs)
	in.Page.After = uuid.Nil
	part, err := r.AddressPart(t.Context(), in)
	require.NoError(t, err)
	require.Len(t, part.Events[0].Targets, StepSize-1)
	require.Empty(t, r.prefetch.inputs, "of a step that was begun before, each attempt finds out whether it was made")

	_, err = r.AddressPart(t.Context(), PartOfAudience{EventID: "unknown", Page: Page{Upto: uuid.Max}})
	require.Error(t, err, fmt.Sprint(in))
}

// TestDeliverer_AddressPartWhileTheEventIsTakenOver: the run that takes it over leaves a batch that is in progress.
func TestDeliverer_AddressPartWhileTheEventIsTakenOver(t *testing.T) {
	t.Parallel()
	var takeOver func()
	r := newRig(t, func(c *Config) { c.Wake = func(Target) { takeOver() } })
	e := r.accepted(t)
	first, filtered := r.subscribe(t, "https://example.com", ""), r.subscribe(t, "https://example.com", "")
	r.set(t, first, "queued = true")
	r.set(t, filtered, `queued = true, filter = '{"postId":["p1"]}'`)
	takeOver = func() { r.execute(t, "UPDATE events SET run_id = 'another' WHERE id = $1", e.ID) }
	part, err := r.AddressPart(t.Context(), PartOfAudience{EventID: e.ID, Page: Page{Upto: uuid.Max}})
	require.NoError(t, err)
	require.Equal(t, 2, part.Events[0].Queued)
	require.Len(t, r.planned(t, first), 1)
	require.Len(t, r.planned(t, filtered), 1)
}
