package e2e_test

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/testkit"
	"github.com/mathub/webhooks/webhook"
)

const post = "post.created"

// TestAcceptance is the contract as its users see it: HTTP and Temporal in, real receivers out.
func TestAcceptance(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{Env: map[string]string{"MATHUB_MAX_WEBHOOKS_PER_BOT": "1000"}})
	t.Run("cases", func(t *testing.T) {
		for name, run := range map[string]func(t *testing.T, stack *testkit.Stack){
			"both doors deliver signed":                 bothDoorsDeliverSigned,
			"ten failures disable and enabling resets":  tenFailuresDisable,
			"a receiver that hangs or drips is cut off": hangingReceiversAreCutOff,
			"many webhooks get it once each":            manyWebhooks,
			"data arrives as emitted":                   dataArrivesAsEmitted,
			"targeted events reach their bots only":     targetedEvents,
			"the test event":                            theTestEvent,
			"redirects are not followed":                redirectsAreNotFollowed,
			"our own API is no receiver":                ownListenerIsRefused,
			"connections are kept alive":                connectionsAreKeptAlive,
			"an invalid event fails its workflow":       invalidEventFailsItsWorkflow,
			"the command line makes bots and keys":      commandLineMakesBots,
			"the examples verify signatures":            examplesVerifySignatures,
			"a short outage does not cost the webhook":  shortOutage,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				run(t, stack)
			})
		}
	})
}

func hexHMAC(secret string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

func startEvent(t *testing.T, stack *testkit.Stack, id string, event map[string]any) client.WorkflowRun {
	t.Helper()
	run, err := stack.Temporal(t).ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "event-" + id, TaskQueue: "mathub-webhooks"}, "DeliverEvent", event)
	require.NoError(t, err)
	return run
}

func bothDoorsDeliverSigned(t *testing.T, stack *testkit.Stack) {
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	receiver := testkit.NewReceiver(t)
	bot := stack.API().CreateBot(t, "doors")
	hook := bot.CreateWebhook(t, receiver.URL("/"), secret, post)
	require.True(t, hook.HasSecret)

	overHTTP := bot.Emit(t, testkit.Event{Type: post, Data: json.RawMessage(`{"postId":"1"}`)})
	require.Equal(t, "event-"+overHTTP.ID, overHTTP.WorkflowID)
	receiver.Await(t, "/", 1)
	bot.AwaitDeliveries(t, hook.ID, 1) // the history has the order in which deliveries were recorded
	data := map[string]any{"event": post, "data": map[string]any{"postId": "2"}, "botIds": []string{bot.ID}}
	require.NoError(t, startEvent(t, stack, "doors-2", data).Get(t.Context(), nil))
	requests := receiver.Await(t, "/", 2)
	standard, err := standardwebhooks.NewWebhook(secret)
	require.NoError(t, err)
	for i, id := range []string{overHTTP.ID, "doors-2"} {
		r := requests[i]
		require.Equal(t, id, r.EventID())
		require.Equal(t, hexHMAC(secret, r.Body), r.Header.Get("X-Mathub-Signature"))
		require.NoError(t, standard.Verify(r.Body, r.Header))
		require.Equal(t, "application/json", r.Header.Get("Content-Type"))
		require.Equal(t, post, r.Header.Get("X-Mathub-Event"))
		require.Regexp(t, `^Mathub-Webhooks/\S+$`, r.Header.Get("User-Agent"))
		require.Regexp(t, `^\{"event":"post\.created","timestamp":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z","data":\{"postId":"\d"\}\}$`, string(r.Body))
	}

	// However often it is emitted, through either door, it is delivered once.
	require.True(t, bot.Emit(t, testkit.Event{ID: "doors-2", Type: post}).Duplicate)
	require.True(t, bot.Emit(t, testkit.Event{ID: overHTTP.ID, Type: post}).Duplicate)
	data["id"] = overHTTP.ID
	require.NoError(t, startEvent(t, stack, overHTTP.ID, data).Get(t.Context(), nil))
	deliveries := bot.AwaitDeliveries(t, hook.ID, 2)
	require.Len(t, deliveries, 2)
	require.Equal(t, 2, receiver.Count())
	require.Equal(t, requests[1].Header.Get("X-Mathub-Delivery"), deliveries[0].ID)
	require.True(t, deliveries[0].Success)
	require.Nil(t, deliveries[0].Error)
}

func tenFailuresDisable(t *testing.T, stack *testkit.Stack) {
	receiver := testkit.NewReceiver(t)
	receiver.Answer("/", testkit.Content(http.StatusInternalServerError, "out of order"))
	bot := stack.API().CreateBot(t, "failing")
	hook := bot.CreateWebhook(t, receiver.URL("/"), "", post)
	for range 10 {
		bot.Emit(t, testkit.Event{Type: post})
	}
	deliveries := bot.AwaitDeliveries(t, hook.ID, 10)
	require.Len(t, deliveries, 10)
	for _, d := range deliveries {
		require.False(t, d.Success)
		require.Equal(t, "HTTP 500", *d.Error)
		require.Equal(t, 500, *d.StatusCode)
		require.Equal(t, "out of order", *d.ResponseBody)
	}
	disabled := bot.Webhook(t, hook.ID)
	require.False(t, disabled.IsActive)
	require.Equal(t, 10, disabled.FailureCount)
	require.NotNil(t, disabled.DisabledAt)

	eleventh := bot.Emit(t, testkit.Event{Type: post})
	require.NoError(t, stack.Temporal(t).GetWorkflow(t.Context(), eleventh.WorkflowID, "").Get(t.Context(), nil))
	require.Equal(t, 10, receiver.Count(), "a disabled webhook receives nothing")

	receiver.Answer("/", testkit.Status(http.StatusOK))
	enabled := bot.SetActive(t, hook.ID, true)
	require.True(t, enabled.IsActive)
	require.Zero(t, enabled.FailureCount)
	require.Nil(t, enabled.DisabledAt)
	next := bot.Emit(t, testkit.Event{Type: post})
	require.Equal(t, next.ID, receiver.Await(t, "/", 11)[10].EventID())
	require.True(t, bot.AwaitDeliveries(t, hook.ID, 11)[0].Success)
}

func hangingReceiversAreCutOff(t *testing.T, stack *testkit.Stack) {
	receiver := testkit.NewReceiver(t)
	receiver.Answer("/hang", receiver.Hang())
	receiver.Answer("/drip", receiver.Drip(time.Second))
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, by the kernel, and that is all
	require.NoError(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	bot := stack.API().CreateBot(t, "hanging")
	hooks := map[string]string{
		"hang":   bot.CreateWebhook(t, receiver.URL("/hang"), "", post).ID,
		"drip":   bot.CreateWebhook(t, receiver.URL("/drip"), "", post).ID,
		"silent": bot.CreateWebhook(t, "http://"+silent.Addr().String()+"/", "", post).ID,
	}
	bot.Emit(t, testkit.Event{Type: post})
	for name, id := range hooks {
		d := bot.AwaitDeliveries(t, id, 1)[0]
		require.Equal(t, "timeout", *d.Error, name)
		require.GreaterOrEqual(t, d.DurationMS, 4900, name)
		require.Less(t, d.DurationMS, 7000, name)
		require.False(t, d.Success)
		if name != "drip" {
			require.Nil(t, d.StatusCode, name)
			require.Nil(t, d.ResponseBody, name)
		}
	}
}

// manyWebhooks of one event; the fault tests have thousands.
func manyWebhooks(t *testing.T, stack *testkit.Stack) {
	const audience = 300
	receiver := testkit.NewReceiver(t)
	bot := stack.API().CreateBot(t, "thousand")
	bot.CreateWebhooks(t, audience, func(i int) string { return receiver.URL(fmt.Sprintf("/%d", i)) }, post)
	event := bot.Emit(t, testkit.Event{Type: post})
	require.Eventually(t, func() bool { return receiver.Count() >= audience }, 3*time.Minute, 50*time.Millisecond)
	var rows int
	require.Eventually(t, func() bool {
		err := stack.Database(t).QueryRow(t.Context(), "SELECT count(*) FROM deliveries WHERE event_id = $1 AND success", event.ID).Scan(&rows)
		return err == nil && rows >= audience
	}, 3*time.Minute, 50*time.Millisecond)
	require.Equal(t, audience, rows)
	require.Equal(t, audience, receiver.Count())
	for i := range audience {
		require.Len(t, receiver.Requests(fmt.Sprintf("/%d", i)), 1)
	}
}

func dataArrivesAsEmitted(t *testing.T, stack *testkit.Stack) {
	data := `{"n":12345678901234567890.12345678901234567890,"e":1e400,"z":-0,"nul":"\u0000","emoji":"😀🧮","html":"<a href='x'>&</a>","line":"` + "\u2028" + `","b":1,"a":2,"text":"` + strings.Repeat("x", 200<<10) + `"}`
	receiver := testkit.NewReceiver(t)
	bot := stack.API().CreateBot(t, "exact")
	hook := bot.CreateWebhook(t, receiver.URL("/"), "s", post)
	answer, err := stack.API().Do(t.Context(), http.MethodPost, "/api/internal/v1/events", stack.API().ServiceToken,
		[]byte(`{"event":"post.created","timestamp":"2025-03-20T11:30:00+01:00","data":`+data+`,"botIds":["`+bot.ID+`"]}`))
	require.NoError(t, err)
	require.Equal(t, http.StatusAccepted, answer.Status, string(answer.Body))
	want := `{"event":"post.created","timestamp":"2025-03-20T10:30:00.000Z","data":` + data + `}`
	request := receiver.Await(t, "/", 1)[0]
	require.True(t, want == string(request.Body), "got %.300s", request.Body)
	require.Equal(t, hexHMAC("s", request.Body), request.Header.Get("X-Mathub-Signature"))

	bot.AwaitDeliveries(t, hook.ID, 1)
	raw, err := stack.API().Do(t.Context(), http.MethodGet, "/api/bot/v1/webhooks/"+hook.ID+"/deliveries", bot.Key, nil)
	require.NoError(t, err)
	require.Contains(t, string(raw.Body), `"payload":`+want, "the history has the very bytes")
}

func targetedEvents(t *testing.T, stack *testkit.Stack) {
	receiver := testkit.NewReceiver(t)
	mine, other := stack.API().CreateBot(t, "mine"), stack.API().CreateBot(t, "other")
	var targeted []string
	for _, spec := range webhook.Catalog() {
		if spec.Audience == webhook.Targeted {
			targeted = append(targeted, string(spec.Type))
		}
	}
	mine.CreateWebhook(t, receiver.URL("/mine"), "", targeted...)
	paused := mine.CreateWebhook(t, receiver.URL("/paused"), "", targeted...)
	mine.SetActive(t, paused.ID, false)
	other.CreateWebhook(t, receiver.URL("/other"), "", targeted...)
	for _, kind := range targeted {
		_, err := stack.API().TryEmit(t.Context(), testkit.Event{Type: mathub.EventType(kind)})
		require.ErrorContains(t, err, "422")
		require.ErrorContains(t, err, "botIds")
		mine.Emit(t, testkit.Event{Type: mathub.EventType(kind)})
	}
	receiver.Await(t, "/mine", len(targeted))
	require.Equal(t, len(targeted), receiver.Count())
}

func theTestEvent(t *testing.T, stack *testkit.Stack) {
	receiver := testkit.NewReceiver(t)
	bot := stack.API().CreateBot(t, "tester")
	hook := bot.CreateWebhook(t, receiver.URL("/"), "s", post)
	bot.SetActive(t, hook.ID, false)
	d := bot.Test(t, hook.ID)
	require.True(t, d.Success)
	require.Equal(t, "test", d.EventType)
	request := receiver.Await(t, "/", 1)[0]
	require.Equal(t, string(request.Body), string(d.Payload))
	require.Contains(t, string(request.Body), `"data":{"webhookId":"`+hook.ID+`","botId":"`+bot.ID+`","message":"This is a test event from Mathub"}}`)
	require.False(t, bot.Webhook(t, hook.ID).IsActive, "a success enables nothing")

	receiver.Answer("/", testkit.Status(http.StatusTeapot))
	d = bot.Test(t, hook.ID)
	require.False(t, d.Success)
	require.Equal(t, "HTTP 418", *d.Error)
	require.Equal(t, 1, bot.Webhook(t, hook.ID).FailureCount)
}

func redirectsAreNotFollowed(t *testing.T, stack *testkit.Stack) {
	receiver := testkit.NewReceiver(t)
	receiver.Answer("/", testkit.Redirect(http.StatusTemporaryRedirect, receiver.URL("/elsewhere")))
	bot := stack.API().CreateBot(t, "redirected")
	hook := bot.CreateWebhook(t, receiver.URL("/"), "", post)
	require.Equal(t, "HTTP 307", *bot.Test(t, hook.ID).Error)
	require.Empty(t, receiver.Requests("/elsewhere"))
}

func connectionsAreKeptAlive(t *testing.T, stack *testkit.Stack) {
	var mu sync.Mutex
	connections := map[string]int{}
	receiver := testkit.NewReceiver(t)
	receiver.Answer("/", func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		connections[r.RemoteAddr]++
	})
	bot := stack.API().CreateBot(t, "alive")
	hook := bot.CreateWebhook(t, receiver.URL("/"), "", post)
	for range 10 {
		require.True(t, bot.Test(t, hook.ID).Success)
	}
	mu.Lock()
	defer mu.Unlock()
	require.Len(t, connections, 1)
}

func invalidEventFailsItsWorkflow(t *testing.T, stack *testkit.Stack) {
	err := startEvent(t, stack, "invalid", map[string]any{"event": "mention", "data": map[string]any{}}).Get(t.Context(), nil)
	var fault *temporal.ApplicationError
	require.ErrorAs(t, err, &fault)
	require.True(t, fault.NonRetryable())
	require.Contains(t, fault.Message(), "botIds")
}

func commandLineMakesBots(t *testing.T, stack *testkit.Stack) {
	id := stack.Run(t, "bot", "create", "cli bot")
	for _, nameOrID := range []string{id, "cli bot"} {
		key := stack.Run(t, "bot", "key", nameOrID)
		answer, err := stack.API().Do(t.Context(), http.MethodGet, "/api/bot/v1/webhooks", key, nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, answer.Status)
	}
}

// shortOutage: ten events during a two-second restart of a receiver cost it one or two failures, not its subscription.
func shortOutage(t *testing.T, stack *testkit.Stack) {
	receiver := testkit.NewReceiver(t)
	bot := stack.API().CreateBot(t, "restarting")
	hook := bot.CreateWebhook(t, receiver.URL("/"), "", post)
	var outage sync.Once
	var began time.Time
	receiver.Answer("/", func(w http.ResponseWriter, _ *http.Request) {
		outage.Do(func() { began = time.Now() })
		if time.Since(began) < 1900*time.Millisecond {
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	for range 10 {
		bot.Emit(t, testkit.Event{Type: post})
		time.Sleep(150 * time.Millisecond) // the rate of the emits
	}
	failed, delivered := 0, 0
	require.Eventually(t, func() bool {
		failed, delivered = 0, 0
		for _, d := range bot.Deliveries(t, hook.ID) {
			if d.Success {
				delivered++
			} else {
				failed++
			}
		}
		return delivered >= 10-failed // what failed is attempted again half a minute later
	}, 3*time.Minute, 200*time.Millisecond)
	require.LessOrEqual(t, failed, 5)
	require.True(t, bot.Webhook(t, hook.ID).IsActive)
}

func examplesVerifySignatures(t *testing.T, stack *testkit.Stack) {
	bot := stack.API().CreateBot(t, "examples")
	for name, run := range map[string]struct{ program, file string }{
		"Python": {testkit.Tool(t, "python3"), "../../examples/receiver.py"},
		"Node":   {testkit.Tool(t, "node"), "../../examples/receiver.mjs"},
	} {
		port, err := freeport.Find()
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		cmd := exec.CommandContext(ctx, run.program, run.file, "s3cret", strconv.Itoa(port))
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start(), name)
		t.Cleanup(func() {
			cancel()
			_ = cmd.Wait()
		})
		url := fmt.Sprintf("http://127.0.0.1:%d/", port)
		require.Eventually(t, func() bool {
			c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err == nil {
				_ = c.Close()
			}
			return err == nil
		}, 3*time.Minute, 50*time.Millisecond)
		good := bot.CreateWebhook(t, url, "s3cret", post)
		require.True(t, bot.Test(t, good.ID).Success, name)
		line, err := bufio.NewReader(out).ReadString('\n')
		require.NoError(t, err)
		require.Contains(t, line, "This is a test event from Mathub", name)
		forged := bot.CreateWebhook(t, url, "another", post)
		require.Equal(t, "HTTP 401", *bot.Test(t, forged.ID).Error, name)
	}
}

func ownListenerIsRefused(t *testing.T, stack *testkit.Stack) {
	bot := stack.API().CreateBot(t, "inward")
	hook := bot.CreateWebhook(t, stack.API().URL+"/api/bot/v1/webhooks", "", post)
	d := bot.Test(t, hook.ID)
	require.Equal(t, "blocked: address not allowed", *d.Error)
	require.Nil(t, d.StatusCode)
	require.Nil(t, d.ResponseBody)
}
