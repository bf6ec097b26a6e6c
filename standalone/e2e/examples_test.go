package e2e_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oapi-codegen/nullable"
	"github.com/stretchr/testify/require"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/testkit"
	"github.com/mathub/webhooks/webhook"
)

const examplesSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func example(t *testing.T, path string) string {
	t.Helper()
	full, err := filepath.Abs(filepath.Join("..", "..", "examples", path))
	require.NoError(t, err)
	return full
}

// output runs a program to its end, for ten minutes at most: some compile a client on a machine that has nothing compiled yet.
func (tm *terminal) output(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	out, err := tm.command(ctx, name, args...).CombinedOutput()
	require.NoError(t, err, "%s %v: %s", name, args, out)
	return strings.TrimSpace(string(out))
}

// TestExamples runs each example as a developer would. What it needs is installed by make test-deps; what is missing
// fails it.
func TestExamples(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{})
	tm := openTerminal(t, stack, stack.API().CreateBot(t, "developer"))
	python, node := testkit.Tool(t, "python3"), testkit.Tool(t, "node")
	receiver := filepath.Join(t.TempDir(), "receiver")
	tm.output(t, "go", "-C", example(t, "go"), "build", "-o", receiver, ".")

	for _, r := range []struct {
		name    string
		command []string
	}{
		{"receiver.py", []string{python, example(t, "receiver.py")}},
		{"flask_receiver.py", []string{python, example(t, "python/flask_receiver.py")}},
		{"receiver.mjs", []string{node, example(t, "receiver.mjs")}},
		{"standard.mjs", []string{node, example(t, "node/standard.mjs")}},
		{"main.go", []string{receiver}},
	} {
		t.Run(r.name, func(t *testing.T) {
			exampleReceives(t, stack, tm, r.command)
			exampleNamesATakenPort(t, tm, r.command)
		})
	}
	t.Run("the first receivers", func(t *testing.T) {
		for _, command := range [][]string{{python, "testdata/first/receiver.py"}, {node, "testdata/first/receiver.mjs"}} {
			firstReceiverVerifies(t, stack, tm, command)
		}
	})
	t.Run("emit_batch.py", func(t *testing.T) {
		exampleEmitsSeveral(t, stack, tm, python, example(t, "python/emit_batch.py"))
	})
}

// exampleReceives sees real deliveries verified and worked on, and forged and replayed ones refused.
func exampleReceives(t *testing.T, stack *testkit.Stack, tm *terminal, command []string) {
	port, err := freeport.Find()
	require.NoError(t, err)
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	stdout, stderr, stop := tm.start(t, command[0], append(command[1:], examplesSecret, strconv.Itoa(port))...)
	require.Eventually(t, func() bool {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	}, 3*time.Minute, 20*time.Millisecond, "it does not listen")
	defer func() {
		if t.Failed() {
			t.Log(stderr.String())
		}
		stop()
	}()
	hangUp(t, addr)
	floods(t, addr)
	odd := []byte(`{"id":"evt_odd","event":"post.created"}`) // whose work fails, before or after the answer, and keeps no other from its own
	postTo(t, "http://"+addr+"/", mathub.Sign(odd, examplesSecret, "evt_odd", time.Now()), odd)
	bot, listening := stack.API().CreateBot(t, "receiving"), testkit.NewReceiver(t)
	hook := bot.CreateWebhook(t, "http://"+addr+"/", examplesSecret, post)
	bot.CreateWebhook(t, listening.URL("/"), examplesSecret, post) // what is sent, as someone who listens in has it
	sent := bot.Emit(t, testkit.Event{Type: post, Data: []byte(`{"body":"größer ≥ \u003c"}`)})
	delivery := bot.AwaitDeliveries(t, hook.ID, 1)[0]
	require.True(t, delivery.Success, "%+v", delivery)
	stdout.await(t, sent.ID)
	asked := bot.Verify(t, hook.ID)
	require.True(t, asked.Success, "it answers with the nonce: %+v", asked)
	require.True(t, bot.Webhook(t, hook.ID).Verified)

	captured := listening.Await(t, "/", 1)[0]
	readsChunks(t, "http://"+addr+"/", captured.Header, captured.Body)
	refusesForgeries(t, "http://"+addr+"/", captured)
	require.NotContains(t, stdout.String(), "forged")
	require.Equal(t, 1, strings.Count(stdout.String(), sent.ID), "the work is done once")
}

// hangUp is what any stranger can do to a receiver: half a request, and no more.
func hangUp(t *testing.T, addr string) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	require.NoError(t, err)
	_, err = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nhalf")
	require.NoError(t, err)
	require.NoError(t, conn.Close())
}

// readsChunks sends a genuine body in chunks, as some proxies do: a receiver takes it, or says that it needs a length.
func readsChunks(t *testing.T, url string, headers http.Header, body []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	require.NoError(t, err)
	request.Header, request.ContentLength = headers.Clone(), -1
	request.Header.Del("Content-Length")
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Contains(t, []int{http.StatusOK, http.StatusNoContent, http.StatusLengthRequired}, response.StatusCode)
}

// floods is what any stranger can do too: a body without an end, of which a receiver keeps only so much.
func floods(t *testing.T, addr string) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	require.NoError(t, err)
	defer conn.Close() //nolint:errcheck // the receiver may have closed it
	_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\n"+strings.Repeat("x", 400<<10))
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	_, err = conn.Read(make([]byte, 1))
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "it waits for more")
}

// TestMovingReceiver: a receiver during a move takes what Mathub sends, and what Svix, Convoy and Outpost send as their documentation says.
func TestMovingReceiver(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{})
	tm := openTerminal(t, stack, stack.API().CreateBot(t, "moving"))
	const old = "whsec_b2xkLW9sZC1vbGQtb2xkLW9sZC1vbGQtb2xkLW9sZA=="
	command := []string{testkit.Tool(t, "node"), example(t, "node/moving.mjs")}
	exampleNamesATakenPort(t, tm, command, examplesSecret)
	port, err := freeport.Find()
	require.NoError(t, err)
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	stdout, stderr, stop := tm.start(t, command[0], command[1], examplesSecret, old, strconv.Itoa(port))
	defer stop()
	require.Eventually(t, func() bool {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
		return err == nil && conn.Close() == nil
	}, 3*time.Minute, 20*time.Millisecond, "it does not listen: %s", stderr)

	hangUp(t, addr)
	floods(t, addr)
	bot := stack.API().CreateBot(t, "moved")
	hook := bot.CreateWebhook(t, "http://"+addr+"/", examplesSecret, post)
	sent := bot.Emit(t, testkit.Event{ID: "both", Type: post, Data: []byte(`{"postId":"p1"}`)})
	require.True(t, bot.AwaitDeliveries(t, hook.ID, 1)[0].Success)
	require.True(t, bot.Verify(t, hook.ID).Success)
	stdout.await(t, sent.ID)

	now := strconv.FormatInt(time.Now().Unix(), 10)
	stale := strconv.FormatInt(time.Now().Add(-6*time.Minute).Unix(), 10)
	hexOf := func(text string) string {
		mac := hmac.New(sha256.New, []byte(old))
		mac.Write([]byte(text))
		return hex.EncodeToString(mac.Sum(nil))
	}
	standard := func(prefix, id, secret string) map[string]string {
		return map[string]string{prefix + "id": id, prefix + "timestamp": now, prefix + "signature": webhook.SignStandard(secret, id, time.Now(), []byte(`{"id":"`+id+`"}`))}
	}
	for name, c := range map[string]struct {
		id      string
		headers map[string]string
		want    int
	}{
		"Svix":                        {"s1", standard("svix-", "s1", old), http.StatusOK},
		"Svix without its name":       {"s2", standard("webhook-", "s2", old), http.StatusOK},
		"Convoy":                      {"c1", map[string]string{"X-Convoy-Signature": "t=" + now + ",v1=" + hexOf(now+`,{"id":"c1"}`)}, http.StatusOK},
		"Convoy, several":             {"c2", map[string]string{"X-Convoy-Signature": "t=" + now + ",v1=00,v1=" + hexOf(now+`,{"id":"c2"}`)}, http.StatusOK},
		"Outpost":                     {"o1", map[string]string{"X-Outpost-Id": "o1", "X-Outpost-Signature": "t=" + now + ",v0=" + hexOf(now+`.{"id":"o1"}`)}, http.StatusOK},
		"the same event by Svix":      {"both", standard("svix-", "both", old), http.StatusOK},
		"Svix under another id":       {"forged", standard("svix-", "s1", old), http.StatusUnauthorized},
		"the new secret for the old":  {"forged", standard("svix-", "forged", examplesSecret), http.StatusUnauthorized},
		"Convoy's of six minutes ago": {"forged", map[string]string{"X-Convoy-Signature": "t=" + stale + ",v1=" + hexOf(stale+`,{"id":"forged"}`)}, http.StatusUnauthorized},
		"Outpost's as Convoy's":       {"forged", map[string]string{"X-Convoy-Signature": "t=" + now + ",v1=" + hexOf(now+`.{"id":"forged"}`)}, http.StatusUnauthorized},
		"no signature in it":          {"forged", map[string]string{"X-Outpost-Signature": "t=" + now}, http.StatusUnauthorized},
		"unsigned":                    {"forged", nil, http.StatusUnauthorized},
	} {
		header := http.Header{}
		for key, value := range c.headers {
			header.Set(key, value)
		}
		status, _ := postTo(t, "http://"+addr+"/", header, []byte(`{"id":"`+c.id+`"}`))
		require.Equal(t, c.want, status, name)
	}
	for _, id := range []string{"s1", "s2", "c1", "c2", "o1"} {
		stdout.await(t, id+" ")
	}
	require.Equal(t, 1, strings.Count(stdout.String(), "both "), "the work is done once")
	require.NotContains(t, stdout.String(), "forged")
}

// exampleNamesATakenPort: a receiver that cannot listen, or has no secret, ends with one line that says what to change.
func exampleNamesATakenPort(t *testing.T, tm *terminal, command []string, more ...string) {
	t.Helper()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close() //nolint:errcheck // the test is over
	ends := func(args ...string) string {
		t.Helper()
		cmd := tm.command(t.Context(), command[0], append(slices.Clone(command[1:]), args...)...)
		out, err := cmd.CombinedOutput()
		require.Error(t, err)
		require.Equal(t, 1, cmd.ProcessState.ExitCode(), "%s", out)
		require.Equal(t, 1, strings.Count(string(out), "\n"), "one line: %s", out)
		return string(out)
	}
	_, port, err := net.SplitHostPort(taken.Addr().String())
	require.NoError(t, err)
	said := ends(append(more, examplesSecret, port)...)
	require.Contains(t, said, port)
	require.Contains(t, said, "as PORT or as the last argument")
	require.Contains(t, ends(), "usage: ")
	for _, none := range []string{"", "whsec_"} { // anyone could sign with it
		require.Regexp(t, "usage: |the secret is empty", ends(append(more, none, port)...))
	}
}

// firstReceiverVerifies: the receivers of the first version, unchanged, verify X-Mathub-Signature still.
func firstReceiverVerifies(t *testing.T, stack *testkit.Stack, tm *terminal, command []string) {
	for _, secret := range []string{examplesSecret, "a text, größer"} {
		port, err := freeport.Find()
		require.NoError(t, err)
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		stdout, stderr, stop := tm.start(t, command[0], append(slices.Clone(command[1:]), secret, strconv.Itoa(port))...)
		require.Eventually(t, func() bool {
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
			return err == nil && conn.Close() == nil
		}, 3*time.Minute, 20*time.Millisecond, "it does not listen: %s", stderr)
		bot := stack.API().CreateBot(t, "first")
		hook := bot.CreateWebhook(t, "http://"+addr+"/", secret, post)
		sent := bot.Emit(t, testkit.Event{Type: post, Data: []byte(`{"body":"größer ≥ \u003c","n":12345678901234567890}`)})
		delivery := bot.AwaitDeliveries(t, hook.ID, 1)[0]
		require.True(t, delivery.Success, "%s by %q: %v", command[1], secret, delivery)
		require.Equal(t, http.StatusNoContent, *delivery.StatusCode)
		stdout.await(t, sent.ID)
		bot.Patch(t, hook.ID, mathub.WebhookChange{Secret: nullable.NewNullableWithValue("another")})
		bot.Emit(t, testkit.Event{Type: post})
		refused := bot.AwaitDeliveries(t, hook.ID, 2)[0]
		require.Equal(t, http.StatusUnauthorized, *refused.StatusCode)
		stop()
	}
}

// refusesForgeries sends a captured request again to a receiver, which is to take it, and with what is not as it was signed.
func refusesForgeries(t *testing.T, url string, captured testkit.Request) {
	t.Helper()
	send := func(headers map[string]string) int {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(captured.Body))
		require.NoError(t, err)
		request.Header = captured.Header.Clone()
		for header, value := range headers {
			if request.Header.Set(header, value); value == "" {
				request.Header.Del(header)
			}
		}
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return response.StatusCode
	}
	require.Less(t, send(nil), http.StatusMultipleChoices, "the same again is genuine; its id tells that it is known")
	zeros := "v1,MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA="
	signedAt := func(at time.Time, id string) map[string]string {
		return map[string]string{
			"webhook-id": id, "webhook-timestamp": strconv.FormatInt(at.Unix(), 10), "webhook-signature": webhook.SignStandard(examplesSecret, id, at, captured.Body),
		}
	}
	for name, headers := range map[string]map[string]string{
		"unsigned":          {"webhook-id": "forged", "X-Mathub-Signature": "", "webhook-signature": ""},
		"forged":            {"webhook-id": "forged", "X-Mathub-Signature": strings.Repeat("0", 64), "webhook-signature": zeros},
		"no ASCII":          {"webhook-id": "forged", "X-Mathub-Signature": "é", "webhook-signature": "v1,é"},
		"another id":        {"webhook-id": "forged"},
		"no id":             {"webhook-id": ""},
		"the other alone":   {"webhook-id": "forged", "webhook-signature": ""},
		"another time":      {"webhook-timestamp": strconv.FormatInt(captured.At.Unix()+100, 10)},
		"no time":           {"webhook-timestamp": ""},
		"no number":         {"webhook-timestamp": "now"},
		"of six minutes":    signedAt(time.Now().Add(-6*time.Minute), "forged"),
		"of the future":     signedAt(time.Now().Add(6*time.Minute), "forged"),
		"of 1970":           {"webhook-timestamp": "1"},
		"another signature": {"webhook-id": "forged", "webhook-signature": captured.Header.Get("Webhook-Signature") + " " + zeros},
	} {
		require.Equal(t, http.StatusUnauthorized, send(headers), name)
	}
}

// exampleEmits runs an emitter twice: its event is delivered once.
func exampleEmits(t *testing.T, stack *testkit.Stack, tm *terminal, command ...string) {
	receiver := testkit.NewReceiver(t)
	bot := stack.API().CreateBot(t, "subscribed")
	hook := bot.CreateWebhook(t, receiver.URL("/hook"), "", post)
	awaitSearchable(t, stack)
	id := "from-" + strings.TrimSuffix(filepath.Base(command[1]), filepath.Ext(command[1]))
	emitting := &terminal{env: append(tm.env, "EVENT_ID="+id)}
	require.Equal(t, "accepted "+id, emitting.output(t, command[0], command[1:]...))
	require.Equal(t, id, receiver.Await(t, "/hook", 1)[0].EventID())
	bot.AwaitDeliveries(t, hook.ID, 1)
	require.Equal(t, "accepted before "+id, emitting.output(t, command[0], command[1:]...))
	require.Len(t, receiver.Requests("/hook"), 1)
	foundByType(t, stack, post, id)
}

// exampleEmitsSeveral runs an emitter of several events, twice, and then with one more: each is delivered once.
func exampleEmitsSeveral(t *testing.T, stack *testkit.Stack, tm *terminal, command ...string) {
	receiver := testkit.NewReceiver(t)
	bot := stack.API().CreateBot(t, "subscribed")
	hook := bot.CreateWebhook(t, receiver.URL("/hook"), "", post)
	awaitSearchable(t, stack)
	of := filepath.Base(command[1])
	of = strings.ReplaceAll(of, ".", "-")
	emit := func(ids ...string) string {
		emitting := &terminal{env: append(tm.env, "EVENT_IDS="+strings.Join(ids, ","))}
		return emitting.output(t, command[0], command[1:]...)
	}
	a, b, c := of+"-a", of+"-b", of+"-c"
	require.Equal(t, "accepted "+a+"\naccepted "+b, emit(a, b))
	receiver.Await(t, "/hook", 2)
	require.Equal(t, "accepted before "+a+"\naccepted before "+b, emit(a, b))
	require.Equal(t, "accepted before "+a+"\naccepted "+c, emit(a, c))
	receiver.Await(t, "/hook", 3)
	bot.AwaitDeliveries(t, hook.ID, 3)
	require.ElementsMatch(t, []string{a, b, c}, eventIDs(receiver.Requests("/hook")))
	foundByType(t, stack, post, a, b, c)
}

func eventIDs(requests []testkit.Request) (ids []string) {
	for _, request := range requests {
		ids = append(ids, request.EventID())
	}
	return ids
}
