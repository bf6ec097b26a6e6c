package faults_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/oapi-codegen/nullable"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/standalone/testkit"
)

// TestEventsOfAGroup has events that share workflows meet what concerns some of them only: an event that cannot be stored, one
// of an unknown type, one that cannot be signed, one that is emitted elsewhere too, one with a large audience, a long list of
// bots. It harms no other.
func TestEventsOfAGroup(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{
		Apps: []testkit.App{{Args: []string{"serve"}}, {Args: []string{"api"}}, {Args: []string{"worker"}}},
		Env:  map[string]string{"MATHUB_MAX_WEBHOOKS_PER_BOT": "1000"},
	})
	t.Run("one cannot be stored", func(t *testing.T) { oneCannotBeStored(t, stack) })
	t.Run("one is of an unknown type", func(t *testing.T) { oneIsOfAnUnknownType(t, stack) })
	t.Run("two processes take the same events", func(t *testing.T) { twoTakeTheSame(t, stack) })
	t.Run("a large audience among small ones", func(t *testing.T) { largeAmongSmall(t, stack) })
	t.Run("long lists of bots", func(t *testing.T) { longLists(t, stack) })
	t.Run("one cannot be signed", func(t *testing.T) { oneCannotBeSigned(t, stack) })
	finished(t, stack, time.Minute)
	stack.Apps = stack.Apps[:3] // the stranger has left
	survived(t, stack)
}

// atOnce is how long what nothing stands in the way of may take until more of it comes, on a busy machine: what something does stand
// in the way of never comes.
const atOnce = time.Minute

// eventsTo are n events to a bot; the n-th's id is what id makes of n.
func eventsTo(botID string, n int, id func(n int) string) []testkit.Event {
	events := make([]testkit.Event, n)
	for i := range events {
		events[i] = testkit.Event{ID: id(i), Type: post, BotIDs: []string{botID}}
	}
	return events
}

func idsOf(events []testkit.Event) []string {
	ids := make([]string, len(events))
	for i, e := range events {
		ids[i] = e.ID
	}
	return ids
}

// emitBurst emits each event by a call of its own, all at once, and waits until they are accepted.
func emitBurst(t *testing.T, api *testkit.API, events []testkit.Event) {
	t.Helper()
	var all sync.WaitGroup
	for _, e := range events {
		all.Go(func() {
			if err := emitPatiently(t.Context(), api, e); err != nil {
				t.Errorf("emit %s: %v", e.ID, err)
			}
		})
	}
	all.Wait()
}

func emitBatch(t *testing.T, api *testkit.API, events []testkit.Event) []testkit.Receipt {
	t.Helper()
	receipts := api.EmitBatch(t, events)
	require.Len(t, receipts, len(events))
	for i, r := range receipts {
		require.Equal(t, events[i].ID, r.ID)
	}
	return receipts
}

// arriveOnce waits until the patient has taken the events, or for patience until it has taken another, and checks that each came once.
func (p *patient) arriveOnce(t *testing.T, patience time.Duration, ids ...string) {
	t.Helper()
	began := time.Now()
	arrived := reaches(patience, len(ids), func() int { return len(ids) - len(p.missing(ids)) })
	missing := p.missing(ids)
	require.True(t, arrived, "%d of %d events have not come to %s, nothing for %v, such as %v", len(missing), len(ids), p.path, patience, missing[:min(5, len(missing))])
	t.Logf("%d events came to %s within %v", len(ids), p.path, time.Since(began).Round(time.Millisecond))
	stalled := stalls(t, p.stack)
	for id, times := range p.well() {
		require.Equal(t, 1, times-min(times-1, stalled[key(p.hook.ID, id)]), "event %s to %s", id, p.path)
	}
}

// oneCannotBeStored: Postgres refuses it, for as long as it does.
func oneCannotBeStored(t *testing.T, stack *testkit.Stack) {
	p := newPatient(t, stack, "stored")
	_, err := stack.Database(t).Exec(t.Context(), "ALTER TABLE events ADD CONSTRAINT poison CHECK (id NOT LIKE 'stored-%7')")
	require.NoError(t, err)
	batch := eventsTo(p.bot.ID, 100, func(n int) string { return fmt.Sprintf("stored-%d", n) })
	burst := eventsTo(p.bot.ID, 100, func(n int) string { return fmt.Sprintf("stored-1%02d", n) })
	emitBatch(t, stack.API(), batch)
	emitBurst(t, stack.API(), burst)
	var well, ill []string
	for _, id := range append(idsOf(batch), idsOf(burst)...) {
		if strings.HasSuffix(id, "7") {
			ill = append(ill, id)
		} else {
			well = append(well, id)
		}
	}
	p.arriveOnce(t, atOnce, well...)
	require.Len(t, p.well(), len(well), "what cannot be stored is not sent")
	_, err = stack.Database(t).Exec(t.Context(), "ALTER TABLE events DROP CONSTRAINT poison")
	require.NoError(t, err)
	p.arriveOnce(t, atOnce, ill...)
}

// oneIsOfAnUnknownType: a newer emitter's, started by a plain Temporal client. The others are known from then on.
func oneIsOfAnUnknownType(t *testing.T, stack *testkit.Stack) {
	p := newPatient(t, stack, "unknown")
	events := eventsTo(p.bot.ID, 100, func(n int) string { return fmt.Sprintf("unknown-%d", n) })
	events[50].Type = "post.deleted"
	for i := range events {
		events[i].Data = []byte(`{}`)
	}
	run, err := stack.Temporal(t).ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "unknown", TaskQueue: emit.TaskQueue}, emit.GroupWorkflowType, events)
	require.NoError(t, err)
	good := slices.Delete(idsOf(events), 50, 51)
	p.arriveOnce(t, atOnce, good...)
	var fault *temporal.ApplicationError
	require.ErrorAs(t, run.Get(t.Context(), nil), &fault)
	require.Contains(t, fault.Message(), "events[50]")

	later := p.bot.CreateWebhook(t, p.receiver.URL("/unknown-later"), "", post)
	again := slices.Delete(slices.Clone(events), 50, 51)
	for _, r := range emitBatch(t, stack.API(), again) {
		require.True(t, r.Duplicate, "%s was accepted before", r.ID)
	}
	finished(t, stack, time.Minute)
	p.arriveOnce(t, atOnce, good...)
	require.Empty(t, p.bot.Deliveries(t, later.ID), "a webhook that did not exist when the events were accepted")
}

// oneCannotBeSigned: the webhook's secret does not open with the product's keyset.
func oneCannotBeSigned(t *testing.T, stack *testkit.Stack) {
	well, ill := newPatient(t, stack, "well"), newPatient(t, stack, "ill")
	_, err := stack.Database(t).Exec(t.Context(), "UPDATE webhooks SET secret = decode(repeat('ab', 60), 'hex') WHERE id = $1", ill.hook.ID)
	require.NoError(t, err)
	batch := eventsTo(well.bot.ID, 100, func(n int) string { return fmt.Sprintf("signed-%d", n) })
	burst := eventsTo(well.bot.ID, 100, func(n int) string { return fmt.Sprintf("signed-1%02d", n) })
	events := slices.Concat(batch, burst)
	var both []string
	for i := range events {
		if i%10 == 3 {
			events[i].BotIDs = append(events[i].BotIDs, ill.bot.ID)
			both = append(both, events[i].ID)
		}
	}
	emitBatch(t, stack.API(), events[:100])
	emitBurst(t, stack.API(), events[100:])
	well.arriveOnce(t, atOnce, idsOf(events)...)
	require.Empty(t, ill.receiver.Requests(ill.path), "unsigned")
	// What waits for the secret holds nothing up.
	after := eventsTo(well.bot.ID, 100, func(n int) string { return fmt.Sprintf("signed-2%02d", n) })
	emitBurst(t, stack.API(), after)
	well.arriveOnce(t, atOnce, idsOf(after)...)
	ill.bot.Patch(t, ill.hook.ID, mathub.WebhookChange{Secret: nullable.NewNullableWithValue("another")})
	ill.arriveOnce(t, atOnce, both...)
	for _, r := range ill.receiver.Requests(ill.path) {
		require.True(t, signedWith(r, "another"))
	}
	well.arriveOnce(t, atOnce, idsOf(events)...)
}

// twoTakeTheSame emits the same events at two processes at once, by themselves and in batches.
func twoTakeTheSame(t *testing.T, stack *testkit.Stack) {
	p := newPatient(t, stack, "same")
	apis := []*testkit.API{stack.APIOf(stack.Apps[0]), stack.APIOf(stack.Apps[1])}
	events := eventsTo(p.bot.ID, either(200, 2000), func(n int) string { return fmt.Sprintf("same-%d", n) })
	var all sync.WaitGroup
	began := time.Now()
	for i, api := range apis {
		all.Go(func() { emitBurst(t, api, events) })
		for from := 0; from < len(events); from += 100 {
			// Another hundred than the other process's, in another order: who locks rows in a circle waits for ever.
			batch := slices.Clone(events[from : from+100])
			if i == 1 {
				slices.Reverse(batch)
			}
			all.Go(func() {
				for deadline := time.Now().Add(emitPatience); ; time.Sleep(50 * time.Millisecond) { // before it emits again
					_, err := api.TryEmitBatch(t.Context(), batch)
					if err == nil {
						return
					}
					if time.Now().After(deadline) {
						t.Errorf("emit a batch: %v", err)
						return
					}
				}
			})
		}
	}
	all.Wait()
	t.Logf("accepted within %v", time.Since(began).Round(time.Millisecond))
	p.arriveOnce(t, atOnce, idsOf(events)...)
	finished(t, stack, time.Minute)
	t.Logf("all workflows had ended after %v", time.Since(began).Round(time.Millisecond))
	p.arriveOnce(t, 0, idsOf(events)...)
	failed, taken := attempts(t, stack, p.hook.ID)
	require.Equal(t, []int{0, len(events)}, []int{failed, taken})
	require.Len(t, p.receiver.Requests(p.path), len(events))

	owners := map[string]string{}
	rows, err := stack.Database(t).Query(t.Context(), "SELECT id, coalesce(workflow_id, 'event-' || id) FROM events WHERE $1 = ANY (bot_ids)", p.bot.ID)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var id, owner string
		require.NoError(t, rows.Scan(&id, &owner))
		owners[id] = owner
	}
	require.NoError(t, rows.Err())
	for _, api := range apis {
		for _, r := range emitBatch(t, api, events[:100]) {
			require.Equal(t, testkit.Receipt{ID: r.ID, WorkflowID: owners[r.ID], Duplicate: true}, r)
		}
	}
}

// largeAmongSmall: events for 600 webhooks, which is more than a workflow delivers to by itself, stand among events for a bot
// or two, while webhooks of the large audience are deleted, disabled and moved.
func largeAmongSmall(t *testing.T, stack *testkit.Stack) {
	const audience, large = 600, "thread.created" // nobody else's
	receiver := testkit.NewReceiver(t)
	owner := stack.API().CreateBot(t, "large")
	owner.CreateWebhooks(t, audience, func(i int) string { return receiver.URL(fmt.Sprintf("/%d", i)) }, large)
	at := map[string]mathub.WebhookDetail{} // by path
	for _, h := range owner.Webhooks(t) {
		at[strings.TrimPrefix(h.URL, strings.TrimSuffix(receiver.URL("/"), "/"))] = h
	}
	one, two := newPatient(t, stack, "one"), newPatient(t, stack, "two")
	for _, p := range []*patient{one, two} {
		p.bot.Patch(t, p.hook.ID, mathub.WebhookChange{Events: mathub.EventTypes{post, "mention"}})
	}
	for i := range audience {
		receiver.Answer(fmt.Sprintf("/%d", i), receiver.Slow(50*time.Millisecond, testkit.Status(http.StatusNoContent)))
	}

	var events []testkit.Event
	var toAll, toOne, toTwo []string
	for i := range either(60, 100) {
		id := fmt.Sprintf("audience-%d", i)
		switch {
		case i%12 == 5:
			events, toAll = append(events, testkit.Event{ID: id, Type: large}), append(toAll, id)
		case i%3 == 0:
			events, toOne = append(events, testkit.Event{ID: id, Type: "mention", BotIDs: []string{one.bot.ID}}), append(toOne, id)
		case i%3 == 1:
			events, toTwo = append(events, testkit.Event{ID: id, Type: post, BotIDs: []string{two.bot.ID}}), append(toTwo, id)
		default:
			events = append(events, testkit.Event{ID: id, Type: "mention", BotIDs: []string{two.bot.ID, one.bot.ID}})
			toOne, toTwo = append(toOne, id), append(toTwo, id)
		}
	}
	began := time.Now()
	emitBatch(t, stack.API(), events)
	one.arriveOnce(t, atOnce, toOne...)
	two.arriveOnce(t, atOnce, toTwo...)
	small := time.Since(began)
	owner.Delete(t, at["/7"].ID)
	owner.SetActive(t, at["/8"].ID, false)
	owner.Patch(t, at["/9"].ID, mathub.WebhookChange{URL: receiver.URL("/moved")})

	reached := func() (n int) {
		for path, requests := range receiver.All() {
			if path != "/7" && path != "/8" && path != "/9" && path != "/moved" && len(eventIDs(requests)) == len(toAll) {
				n++
			}
		}
		return n
	}
	require.True(t, reaches(slack*time.Minute, audience-3, reached), "%d of %d webhooks got all %d events", reached(), audience-3, len(toAll))
	finished(t, stack, time.Minute)
	all := receiver.All()
	for path, requests := range all {
		for id, times := range eventIDs(requests) {
			require.Equal(t, 1, times, "event %s to %s", id, path)
			require.Contains(t, toAll, id, "at %s", path)
		}
	}
	moved := eventIDs(append(all["/9"], all["/moved"]...))
	require.Len(t, moved, len(toAll), "the one that moved gets each")
	for id, times := range moved {
		require.Equal(t, 1, times, "event %s to the one that moved", id)
	}
	var left int
	require.NoError(t, stack.Database(t).QueryRow(t.Context(), "SELECT count(*) FROM queue").Scan(&left))
	require.Zero(t, left, "rows left in the queue")
	require.Len(t, one.well(), len(toOne), "targeted events go to the named bots only")
	require.Len(t, two.well(), len(toTwo), "targeted events go to the named bots only")
	t.Logf("%d events, %d of them to %d webhooks: the others had arrived after %v, all after %v; the deleted one got %d, the disabled one %d, the moved one %d before",
		len(events), len(toAll), audience, small.Round(time.Millisecond), time.Since(began).Round(time.Millisecond), len(all["/7"]), len(all["/8"]), len(all["/9"]))
}

// longLists emits at once events that name hundreds of bots each: together they are more than Temporal takes in a workflow.
func longLists(t *testing.T, stack *testkit.Stack) {
	p := newPatient(t, stack, "lists")
	events := eventsTo(p.bot.ID, 64, func(n int) string { return fmt.Sprintf("lists-%d", n) })
	for i := range events {
		for range 999 {
			events[i].BotIDs = append(events[i].BotIDs, uuid.NewString()) // nobody
		}
	}
	emitBurst(t, stack.API(), events)
	p.arriveOnce(t, atOnce, idsOf(events)...)
}
