package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/standalone/testkit"
	"github.com/mathub/webhooks/webhook"
)

// TestNobodyIsFloodedThroughTheService: a bot makes as many webhooks as it may for one third party, deletes them, makes them
// again and recovers, changes their URLs to and fro, tests and redelivers, at two processes of the product. The third party
// gets what its rate allows, whatever its webhooks' queues hold, and a verified receiver on the same host gets all that is sent
// to it, at once.
func TestNobodyIsFloodedThroughTheService(t *testing.T) {
	t.Parallel()
	const burst, perSecond, webhooks = 60, 10, 50
	stack := testkit.Start(t, testkit.Options{
		Apps: []testkit.App{{Args: []string{"serve"}}, {Args: []string{"serve"}}},
		Env:  map[string]string{"MATHUB_UNVERIFIED_RATE": fmt.Sprintf("%d,%d/s", burst, perSecond), "MATHUB_VERIFY_ENDPOINTS": "optional"},
	})
	api, second := stack.APIOf(stack.Apps[0]), stack.APIOf(stack.Apps[1])
	server := newThirdParty(t)
	bot, honest := api.CreateBot(t, "floods"), api.CreateBot(t, "honest")
	wanted := honest.CreateWebhook(t, server.url("/honest"), "", post)
	require.Eventually(t, func() bool { return honest.Webhook(t, wanted.ID).Verified }, 3*time.Minute, 50*time.Millisecond, "it is asked when it is made, and agrees")

	began := time.Now()
	hooks := make([]testkit.Webhook, webhooks)
	apis := []*testkit.API{api, second}
	at := func(i int) *testkit.Bot { return bot.At(apis[i%2]) }
	call := func(i int, path string, body any) testkit.Answered {
		answer, err := apis[i%2].Do(t.Context(), http.MethodPost, "/api/bot/v1/webhooks"+"/"+hooks[i].ID+path, bot.Key, body)
		require.NoError(t, err)
		return answer
	}
	for i := range hooks {
		hooks[i] = at(i).CreateWebhook(t, server.url(fmt.Sprintf("/third/%d", i)), "", post)
	}
	require.Equal(t, "", hooks[0].DuplicateOf)
	var sent int
	// Until what it may send in ten seconds has been sent, which a busy machine takes longer for.
	for round := 0; int(server.third.Load()) <= burst+perSecond*10; round++ {
		require.Less(t, time.Since(began), 5*time.Minute, "what it may send it sends")
		sent++
		api.Emit(t, testkit.Event{ID: fmt.Sprintf("e%d", sent), Type: post, BotIDs: []string{bot.ID, honest.ID}})
		i := round % webhooks
		switch round % 5 {
		case 0:
			at(i).Delete(t, hooks[i].ID)
			hooks[i] = at(i).CreateWebhook(t, server.url("/third/again"), "", post)
		case 1:
			at(i).Patch(t, hooks[i].ID, mathub.WebhookChange{URL: server.url(fmt.Sprintf("/third/moved/%d", round))})
		case 2:
			call(i, "/recover", map[string]any{"since": began.Add(-time.Hour)})
		default:
			answer := call(i, []string{"/test", "/verify"}[round%2], nil)
			require.Contains(t, []int{http.StatusOK, http.StatusTooManyRequests}, answer.Status, "%s", answer.Body)
		}
		server.withinRate(t, burst, perSecond, began)
	}
	server.withinRate(t, burst, perSecond, began)
	require.Eventually(t, func() bool { return int(server.honest.Load()) >= sent }, 3*time.Minute, 20*time.Millisecond, "others are not slowed")
	for _, hook := range bot.Webhooks(t) {
		require.True(t, hook.IsActive)
		require.Zero(t, hook.FailureCount, "a refusal is no failure")
		require.False(t, hook.Verified, "what is answered by anything does not agree")
	}
	// What waits is sent in its turn, still no faster.
	before := server.third.Load()
	require.Eventually(t, func() bool { // on a busy machine, little waits
		var waiting int
		err := stack.Database(t).QueryRow(t.Context(), "SELECT count(*) FROM queue").Scan(&waiting)
		return server.third.Load() >= before+3*perSecond || err == nil && waiting == 0
	}, 3*time.Minute, 20*time.Millisecond)
	server.withinRate(t, burst, perSecond, began)
}

// TestAPersonIsToldOfTheRate: what exceeds it is not sent, and not queued either.
func TestAPersonIsToldOfTheRate(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{Env: map[string]string{"MATHUB_UNVERIFIED_RATE": "3,1/m"}})
	receiver := testkit.NewReceiver(t)
	bot := stack.API().CreateBot(t, "bot")
	hooks := []testkit.Webhook{bot.CreateWebhook(t, receiver.URL("/a"), "", post), bot.CreateWebhook(t, receiver.URL("/b"), "", post)}
	require.True(t, bot.Test(t, hooks[0].ID).Success)
	taken := bot.Test(t, hooks[1].ID)
	require.True(t, bot.Test(t, hooks[0].ID).Success)
	for _, path := range []string{hooks[0].ID + "/test", hooks[0].ID + "/verify", hooks[1].ID + "/test", hooks[1].ID + "/deliveries/" + taken.ID + "/redeliver"} {
		answer, err := stack.API().Do(t.Context(), http.MethodPost, "/api/bot/v1/webhooks/"+path, bot.Key, nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusTooManyRequests, answer.Status, "%s: %s", path, answer.Body)
		seconds, err := strconv.Atoi(answer.Header.Get("Retry-After"))
		require.NoError(t, err)
		require.InDelta(t, 60, seconds, 50)
	}
	require.Equal(t, 3, receiver.Count())
	require.Len(t, bot.Deliveries(t, hooks[0].ID), 2)
	require.Zero(t, bot.Webhook(t, hooks[0].ID).FailureCount)
}

// thirdParty is one host and port: a receiver that agrees to its deliveries, and whoever else has something there.
type thirdParty struct {
	address       string
	third, honest atomic.Int64
}

func newThirdParty(t *testing.T) *thirdParty {
	p := &thirdParty{}
	p.address = receiverOf(t, func(w http.ResponseWriter, r *http.Request, body []byte) {
		nonce := webhook.NonceOf(body)
		switch {
		case !strings.HasPrefix(r.URL.Path, "/honest"):
			p.third.Add(1)
		case nonce != "":
			_ = json.NewEncoder(w).Encode(map[string]string{"nonce": nonce})
		default:
			p.honest.Add(1)
		}
	})
	return p
}

// receiverOf is a receiver that answers verifications too as it likes.
func receiverOf(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, body []byte)) (url string) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			answer(w, r, body)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func (p *thirdParty) url(path string) string { return p.address + path }

// withinRate holds what the third party has got against the rate; what was granted just now may be on its way.
func (p *thirdParty) withinRate(t *testing.T, burst, perSecond int, since time.Time) {
	t.Helper()
	require.LessOrEqual(t, float64(p.third.Load()), float64(burst)+float64(perSecond)*time.Since(since).Seconds()+1)
}

// TestVerificationRequired: what an endpoint missed before it agreed is recovered afterwards.
func TestVerificationRequired(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{Env: map[string]string{"MATHUB_VERIFY_ENDPOINTS": "require"}})
	var agrees atomic.Bool
	var got atomic.Int64
	url := receiverOf(t, func(w http.ResponseWriter, _ *http.Request, body []byte) {
		nonce := webhook.NonceOf(body)
		switch {
		case nonce == "":
			got.Add(1)
		case agrees.Load():
			_, _ = fmt.Fprint(w, nonce)
		}
	})
	bot := stack.API().CreateBot(t, "bot")
	hook := bot.CreateWebhook(t, url+"/", "", post)
	asked := bot.AwaitDeliveries(t, hook.ID, 1)
	require.Equal(t, "webhook.verify", asked[0].EventType)
	require.False(t, asked[0].Success)
	for i := range 5 {
		receipt := bot.Emit(t, testkit.Event{ID: fmt.Sprintf("e%d", i), Type: post})
		require.NoError(t, stack.Temporal(t).GetWorkflow(t.Context(), receipt.WorkflowID, "").Get(t.Context(), nil))
	}
	for _, path := range []string{"/test", "/recover", "/deliveries/" + asked[0].ID + "/redeliver"} {
		answer, err := stack.API().Do(t.Context(), http.MethodPost, "/api/bot/v1/webhooks"+"/"+hook.ID+path, bot.Key, nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusConflict, answer.Status, "%s: %s", path, answer.Body)
	}
	require.Zero(t, got.Load())

	agrees.Store(true)
	require.True(t, bot.Verify(t, hook.ID).Success)
	bot.Recover(t, hook.ID, nil)
	require.Equal(t, 5, bot.AwaitRecovery(t, hook.ID).Delivered)
	require.EqualValues(t, 5, got.Load())
	bot.Emit(t, testkit.Event{Type: post})
	require.Eventually(t, func() bool { return got.Load() == 6 }, 3*time.Minute, 20*time.Millisecond)
}
