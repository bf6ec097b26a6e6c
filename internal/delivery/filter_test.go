package delivery

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

// about is an event of a project.
func about(project string) webhook.Event {
	return webhook.Event{Type: webhook.ThreadCreated, Data: json.RawMessage(fmt.Sprintf(`{"threadId":"t","projectSlug":%q}`, project))}.Complete(time.Now())
}

// filtered adds so many webhooks for thread.created, of which the n-th has filter % n.
func (r *rig) filtered(t *testing.T, n int, filter string) {
	t.Helper()
	r.execute(t, "INSERT INTO bots (id, name) VALUES ('bot', 'bot') ON CONFLICT DO NOTHING")
	r.execute(t, `INSERT INTO webhooks (id, bot_id, url, origin, events, filter)
		SELECT gen_random_uuid(), 'bot', 'https://example.com', 'https://example.com', '{thread.created}', replace($2, '%', n::text)::jsonb FROM generate_series(1, $1::int) n`, n, filter)
}

// get are the webhooks of a query.
func (r *rig) get(t *testing.T, where string, args ...any) (ids []uuid.UUID) {
	t.Helper()
	rows, err := r.pool.Query(t.Context(), "SELECT id FROM webhooks WHERE "+where, args...)
	require.NoError(t, err)
	for rows.Next() {
		var id uuid.UUID
		require.NoError(t, rows.Scan(&id))
		ids = append(ids, id)
	}
	require.NoError(t, rows.Err())
	return ids
}

func (r *rig) acceptAll(t *testing.T, e webhook.Event, run string) Audience {
	t.Helper()
	a, err := r.Accept(t.Context(), toAccept(run, e))
	require.NoError(t, err)
	return a
}

// targetsOf are the direct targets of an audience's n-th event.
func targetsOf(a Audience, n int) (ids []uuid.UUID) {
	for _, place := range a.Events[n].Targets {
		ids = append(ids, a.Targets[place].WebhookID)
	}
	return ids
}

func TestDeliverer_AcceptFiltered(t *testing.T) {
	t.Parallel()

	t.Run("ThreeOfAThousandGetItWithoutPages", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.filtered(t, 1000, `{"projectSlug":["project-%","all"]}`)
		r.execute(t, `UPDATE webhooks SET filter = '{"projectSlug":["topology"],"threadId":["t"]}' WHERE id IN (SELECT id FROM webhooks ORDER BY id DESC LIMIT 3)`)
		r.execute(t, `UPDATE webhooks SET queued = true WHERE id = (SELECT id FROM webhooks ORDER BY id DESC LIMIT 1)`)
		e := about("topology")
		a := r.acceptAll(t, e, "run")
		require.Len(t, a.Targets, 2, "the history names no other")
		require.Equal(t, EventAudience{Targets: []int{0, 1}, Queued: 1}, a.Events[0])
		require.ElementsMatch(t, r.get(t, `filter @> '{"projectSlug":["topology"]}' AND NOT queued`), targetsOf(a, 0))
		require.Equal(t, 1, r.count(t, "queue"))
		require.Equal(t, r.get(t, "queued"), r.taken())

		none := r.acceptAll(t, about("of no interest"), "run-2")
		require.Equal(t, []EventAudience{{}}, none.Events)
		require.Empty(t, none.Targets)
		all := r.acceptAll(t, about("all"), "run-3")
		require.NotEmpty(t, all.Events[0].Pages, "what more than a page get is split as ever")
	})

	t.Run("EachEventOfAGroupGoesToThoseWhoseFiltersMatch", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		values := []string{`"a"`, `"b"`, `7`, `7.0`, `true`, `"true"`, `null`, `["a"]`}
		one := func() string { return values[rand.IntN(len(values))] }
		filters := map[uuid.UUID]webhook.Filter{}
		for range 60 {
			id := r.subscribe(t, "https://example.com", "")
			filter, err := webhook.ParseFilter(json.RawMessage(fmt.Sprintf(`{"x":[%s,"a"],"y":[%s]}`, values[rand.IntN(6)], values[rand.IntN(6)])))
			require.NoError(t, err)
			if rand.IntN(4) == 0 {
				filter = nil
			}
			r.execute(t, "UPDATE webhooks SET filter = $1, queued = $2 WHERE id = $3", filter.JSON(), rand.IntN(3) == 0, id)
			filters[id] = filter
		}
		queued := r.get(t, "queued")
		in := EventsToAccept{WorkflowID: "w", RunID: "run", At: time.Now()}
		for range 50 {
			data := fmt.Sprintf(`{"x":%s,"y":%s}`, one(), one())
			in.Events = append(in.Events, webhook.Event{Type: webhook.PostCreated, Data: json.RawMessage(data)}.Complete(time.Now()))
		}
		for range 2 { // the repeat, as after a crash, adds nothing
			a, err := r.Accept(t.Context(), in)
			require.NoError(t, err)
			total := 0
			for n, e := range in.Events {
				var direct, waiting []uuid.UUID
				for id, filter := range filters {
					switch {
					case !filter.Match(webhook.FieldsOf(e.Body())):
					case slices.Contains(queued, id):
						waiting = append(waiting, id)
					default:
						direct = append(direct, id)
					}
				}
				require.ElementsMatch(t, direct, targetsOf(a, n), "%s", e.Data)
				require.Equal(t, len(waiting), a.Events[n].Queued)
				require.Equal(t, len(waiting), r.count(t, "queue WHERE event_id = $1 AND webhook_id = ANY ($2)", e.ID, waiting))
				total += len(waiting)
			}
			require.Equal(t, total, r.count(t, "queue"))
		}
	})

	t.Run("ACrashBeforeItIsQueuedLosesNothing", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.filtered(t, 2, `{"projectSlug":["project-%"]}`)
		r.execute(t, "UPDATE webhooks SET queued = true")
		e := about("project-2")
		r.acceptAll(t, e, "run")
		r.execute(t, "DELETE FROM queue") // as if the process had ended between the two statements
		r.taken()
		require.Equal(t, 1, r.acceptAll(t, e, "run").Events[0].Queued)
		require.Equal(t, 1, r.count(t, "queue q JOIN events e ON e.id = q.event_id AND e.accepted_at = q.due_at"))
		require.Len(t, r.taken(), 1)
	})

	t.Run("APausedWebhookQueuesWhatPasses", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.filtered(t, 2, `{"projectSlug":["project-%"]}`)
		r.execute(t, "INSERT INTO pauses (scope, value, reason) VALUES ('all', '', 'test')")
		a := r.acceptAll(t, about("project-1"), "run")
		require.Equal(t, []EventAudience{{Queued: 1}}, a.Events)
		require.Equal(t, 1, r.count(t, "queue"))
		require.Len(t, r.get(t, "queued"), 1, "the other has nothing to wait for")
	})

	t.Run("AChangeIsForEventsAcceptedAfterwards", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.filtered(t, 1, `{"projectSlug":["before"]}`)
		r.execute(t, "UPDATE webhooks SET queued = true")
		e := about("before")
		r.acceptAll(t, e, "run")
		r.execute(t, `UPDATE webhooks SET filter = '{"projectSlug":["after"]}'`)
		require.Equal(t, 1, r.count(t, "queue"), "what is queued stays")
		require.Zero(t, r.acceptAll(t, about("before"), "run-2").Events[0].Queued)
		require.Equal(t, 1, r.acceptAll(t, about("after"), "run-3").Events[0].Queued)
		r.execute(t, "UPDATE webhooks SET filter = NULL")
		require.Equal(t, 1, r.acceptAll(t, about("before"), "run-4").Events[0].Queued)
		require.Equal(t, 3, r.count(t, "queue"))
	})

	t.Run("ATestIsNotFiltered", func(t *testing.T) {
		t.Parallel()
		r, receiver := newRig(t), newReceiver(t, 200)
		id := r.subscribe(t, receiver.url, "")
		r.set(t, id, `filter = '{"postId":["none"]}'`)
		e := webhook.TestEvent(id, "bot", time.Now())
		r.execute(t, "INSERT INTO events (id, type, payload, run_id) VALUES ($1, 'test', $2, 'run')", e.ID, e.Body())
		require.Equal(t, Delivered, r.mustRun(t, Attempt{EventID: e.ID, WebhookID: id, Number: 1, Trigger: webhook.TriggerTest}).Status)
	})
}

// TestDeliverer_AddressPartFiltered: the pages of a large audience have those that get the event, each once, however few they are.
func TestDeliverer_AddressPartFiltered(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		audience, matching, pages int
	}{
		"many":           {1200, 600, 3},
		"few of so many": {maxLooked + 1500, 3, 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.filtered(t, c.audience, `{"projectSlug":["project-%"]}`)
			r.execute(t, `UPDATE webhooks SET filter = '{"projectSlug":["topology"]}', queued = get_byte(uuid_send(id), 15) % 3 = 0
				WHERE id IN (SELECT id FROM webhooks ORDER BY md5(id::text) LIMIT $1)`, c.matching)
			e := about("topology")
			a := r.acceptAll(t, e, "run")
			require.NotEmpty(t, a.Events[0].Pages)
			require.LessOrEqual(t, len(a.Events[0].Pages), c.pages)
			require.Empty(t, a.Targets)
			seen := map[uuid.UUID]int{}
			queued := 0
			for _, page := range a.Events[0].Pages {
				for steps := 0; ; steps++ {
					require.Less(t, steps, 5)
					part, err := r.AddressPart(t.Context(), PartOfAudience{EventID: e.ID, Page: page})
					require.NoError(t, err)
					require.LessOrEqual(t, len(part.Targets)+part.Events[0].Queued, StepSize)
					for _, target := range part.Targets {
						seen[target.WebhookID]++
					}
					queued += part.Events[0].Queued
					if page.After = part.Last; !part.More {
						break
					}
				}
			}
			want := r.get(t, `filter @> '{"projectSlug":["topology"]}' AND NOT queued`)
			require.Len(t, seen, len(want))
			for _, id := range want {
				require.Equal(t, 1, seen[id])
			}
			require.Equal(t, c.matching-len(want), queued)
			require.Equal(t, queued, r.count(t, "queue"))
		})
	}
}
