package faults_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/oapi-codegen/nullable"
	"github.com/stretchr/testify/require"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/standalone/testkit"
)

// TestWebhooksChangeWhileDeliveriesAreUnderWay patches, deletes, disables and re-enables webhooks in a stream of
// events, and holds each answer of the API against what the receivers got from then on.
func TestWebhooksChangeWhileDeliveriesAreUnderWay(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{Servers: durable, Apps: apart(), Env: map[string]string{"MATHUB_RETRY_SCHEDULE": "1s,1s"}})
	receiver := testkit.NewReceiver(t)
	answer := receiver.Slow(100*time.Millisecond, testkit.Status(http.StatusNoContent))
	bot := stack.API().CreateBot(t, "changing")
	hooks := map[string]testkit.Webhook{}
	for _, name := range []string{"moved", "resigned", "deleted", "disabled", "unsubscribed", "failing"} {
		receiver.Answer("/"+name, answer)
		hooks[name] = bot.CreateWebhook(t, receiver.URL("/"+name), "old secret", post)
	}
	receiver.Answer("/moved/new", answer)
	receiver.Answer("/failing", receiver.Slow(100*time.Millisecond, testkit.Status(http.StatusInternalServerError)))

	var mu sync.Mutex
	var ids []string // in the order of their acceptance
	emit := func(goOn func(n int) bool) {
		var all sync.WaitGroup
		for n := 0; goOn(n); n++ {
			time.Sleep(15 * time.Millisecond) // the rate of the emits
			all.Go(func() {
				id := uuid.NewString()
				if err := emitPatiently(t.Context(), stack.API(), testkit.Event{ID: id, Type: post, BotIDs: []string{bot.ID}}); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				ids = append(ids, id)
			})
		}
		all.Wait()
	}
	// past emits until something has happened, however long that takes, and 50 events more.
	past := func(happened <-chan struct{}) func(n int) bool {
		more := 50
		return func(int) bool {
			select {
			case <-happened:
				more--
				return more >= 0
			default:
				return t.Context().Err() == nil
			}
		}
	}
	emitting := func() (before int) {
		mu.Lock()
		defer mu.Unlock()
		return len(ids)
	}

	var stream sync.WaitGroup
	changed := make(chan struct{})
	stream.Go(func() { emit(past(changed)) })
	require.Eventually(t, func() bool { // all get some
		got := receiver.All()
		return !slices.ContainsFunc(slices.Collect(maps.Keys(hooks)), func(name string) bool { return len(got["/"+name]) < 5 })
	}, slack*time.Minute, 100*time.Millisecond)
	bot.Patch(t, hooks["moved"].ID, mathub.WebhookChange{URL: receiver.URL("/moved/new")})
	bot.Patch(t, hooks["resigned"].ID, mathub.WebhookChange{Secret: nullable.NewNullableWithValue("new secret")})
	bot.Delete(t, hooks["deleted"].ID)
	bot.SetActive(t, hooks["disabled"].ID, false)
	bot.Patch(t, hooks["unsubscribed"].ID, mathub.WebhookChange{Events: mathub.EventTypes{"mention"}})
	bot.SetActive(t, hooks["failing"].ID, true) // whatever it has come to
	close(changed)
	stream.Wait()
	stopped := emitting()
	finished(t, stack, time.Minute)
	time.Sleep(2 * time.Second) // for so long, what was looked up of a webhook is used again
	at := map[string]int{}
	for _, name := range []string{"moved", "deleted", "disabled", "unsubscribed"} {
		at[name] = len(receiver.Requests("/" + name))
	}
	emit(func(n int) bool { return n < 150 })
	for name, n := range at {
		require.Len(t, receiver.Requests("/"+name), n, "%s got more", name)
	}

	before := emitting()
	changed = make(chan struct{})
	stream.Go(func() { emit(past(changed)) })
	require.Eventually(t, func() bool { return emitting() >= before+50 }, slack*time.Minute, 5*time.Millisecond, "nothing is emitted")
	bot.SetActive(t, hooks["disabled"].ID, true)
	bot.Patch(t, hooks["unsubscribed"].ID, mathub.WebhookChange{Events: mathub.EventTypes{post, "mention"}})
	bot.SetActive(t, hooks["failing"].ID, true)
	close(changed)
	stream.Wait()
	finished(t, stack, time.Minute)
	span := &mathub.Span{Since: hooks["disabled"].CreatedAt}
	for _, name := range []string{"disabled", "unsubscribed"} {
		bot.Recover(t, hooks[name].ID, span) // one of a bot at a time
		require.Equal(t, "completed", bot.AwaitRecovery(t, hooks[name].ID).State)
	}

	all := slices.Clone(ids)
	slices.Sort(all)
	for name, paths := range map[string][]string{
		"moved": {"/moved", "/moved/new"}, "resigned": {"/resigned"}, "disabled": {"/disabled"}, "unsubscribed": {"/unsubscribed"},
	} {
		var got []string
		for _, path := range paths {
			for _, r := range receiver.Requests(path) {
				got = append(got, r.EventID())
				secret := "old secret"
				if name == "resigned" && !signedWith(r, secret) {
					secret = "new secret"
				}
				require.True(t, signedWith(r, secret), "%s: a wrong signature", name)
			}
		}
		slices.Sort(got)
		require.Equal(t, all, got, "%s: each event once", name)
	}
	for _, r := range receiver.Requests("/resigned") {
		if slices.Index(ids, r.EventID()) >= stopped {
			require.True(t, signedWith(r, "new secret"), "an old secret long after it was changed")
		}
	}

	// Nothing is left of the deleted one, and the others' rows are what their receivers saw.
	for name, hook := range hooks {
		var rows, requests int
		require.NoError(t, stack.Database(t).QueryRow(t.Context(), "SELECT count(*) FROM deliveries WHERE webhook_id = $1", hook.ID).Scan(&rows))
		for path, got := range receiver.All() {
			if path == "/"+name || path == "/"+name+"/new" {
				requests += len(got)
			}
		}
		if name == "deleted" {
			requests = 0
		}
		require.Equal(t, requests, rows, name)
	}
	failing := bot.Webhook(t, hooks["failing"].ID)
	require.False(t, failing.IsActive)
	require.GreaterOrEqual(t, failing.FailureCount, 10) // those in flight at the tenth count as well
	counted(t, stack)
}

func signedWith(r testkit.Request, secret string) bool {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(r.Body)
	return r.Header.Get("X-Mathub-Signature") == hex.EncodeToString(mac.Sum(nil))
}

// counted checks that each webhook's failureCount is no more than the run of failures on top of its history, and, where it
// was never enabled again, no less but for the early ones: five of those count.
func counted(t *testing.T, stack *testkit.Stack) {
	t.Helper()
	rows, err := stack.Database(t).Query(t.Context(), `
		SELECT w.id::text, w.failure_count, w.generation, (
			SELECT count(*) FROM deliveries d
			WHERE d.webhook_id = w.id AND NOT d.success AND d.seq > coalesce(
				(SELECT max(s.seq) FROM deliveries s WHERE s.webhook_id = w.id AND s.success), 0))
		FROM webhooks w`)
	require.NoError(t, err)
	defer rows.Close()
	var wrong []string
	for rows.Next() {
		var id string
		var counter, generation, run int
		require.NoError(t, rows.Scan(&id, &counter, &generation, &run))
		if counter > run || generation == 0 && counter < min(run, 5) {
			wrong = append(wrong, fmt.Sprintf("webhook %s: failureCount %d, a run of %d", id, counter, run))
		}
	}
	require.NoError(t, rows.Err())
	require.Empty(t, wrong)
}
