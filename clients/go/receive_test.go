package mathub_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/webhook"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

var signedBody = []byte(`{"event":"post.created","timestamp":"2025-03-20T10:30:00.000Z","data":{"body":"größer ≥ \u003c","n":12345678901234567890}}`)

func TestVerify_Genuine(t *testing.T) {
	for _, by := range []string{secret, "whsec_AA==", "pässwörd"} {
		product := webhook.Headers(webhook.Delivery{EventID: "evt_1", Type: webhook.PostCreated, At: time.Now(), Body: signedBody, Secrets: []string{by}})
		for name, header := range map[string]http.Header{"the product's": product, "Sign's": mathub.Sign(signedBody, by, "evt_1", time.Now())} {
			event, err := mathub.Verify(signedBody, header, by)
			require.NoError(t, err, "%s by %q", name, by)
			require.Equal(t, mathub.Received{
				ID: "evt_1", Type: mathub.PostCreated, Timestamp: time.Date(2025, 3, 20, 10, 30, 0, 0, time.UTC),
				Data: mathub.PostCreatedData{Body: "größer ≥ <"}, Raw: json.RawMessage(`{"body":"größer ≥ \u003c","n":12345678901234567890}`),
			}, event)
			byBody, err := mathub.NewReceiver(by)
			require.NoError(t, err)
			byBody.BodySignature = true
			_, err = byBody.Verify(signedBody, header)
			require.NoError(t, err, "%s by %q", name, by)
		}
	}
	library, err := standardwebhooks.NewWebhook(secret)
	require.NoError(t, err)
	require.NoError(t, library.Verify(signedBody, mathub.Sign(signedBody, secret, "evt_1", time.Now())))
}

func TestVerify_Forged(t *testing.T) {
	genuine := mathub.Sign(signedBody, secret, "evt_1", time.Now())
	refused := func(name string, body []byte, header http.Header, by ...string) {
		t.Helper()
		_, err := mathub.Verify(body, header, by...)
		require.ErrorIs(t, err, mathub.ErrNotGenuine, name)
		require.NotContains(t, err.Error(), secret)
	}
	signature := genuine.Get("webhook-signature")
	for name, change := range map[string][2]string{
		"another id":            {"webhook-id", "evt_2"},
		"no id":                 {"webhook-id", ""},
		"an id that is none":    {"webhook-id", "evt.1"},
		"a line break":          {"webhook-id", "evt_1\n"},
		"another time":          {"webhook-timestamp", "1614265330"},
		"no time":               {"webhook-timestamp", ""},
		"a time that is none":   {"webhook-timestamp", "now"},
		"a signed time":         {"webhook-timestamp", "+" + genuine.Get("webhook-timestamp")},
		"a time of centuries":   {"webhook-timestamp", strings.Repeat("9", 15)},
		"no signature":          {"webhook-signature", ""},
		"a short signature":     {"webhook-signature", signature[:len(signature)-4]},
		"no version":            {"webhook-signature", signature[3:]},
		"another version":       {"webhook-signature", "v2" + signature[2:]},
		"not padded":            {"webhook-signature", strings.TrimRight(signature, "=")},
		"no ASCII":              {"webhook-signature", "v1,é"},
		"the other alone":       {"webhook-signature", genuine.Get("X-Mathub-Signature")},
		"lists without a right": {"webhook-signature", "v1,a v1,b"},
	} {
		header := genuine.Clone()
		header.Set(change[0], change[1])
		refused(name, signedBody, header, secret)
	}
	twice := genuine.Clone()
	twice.Add("webhook-id", "evt_2")
	refused("two ids", signedBody, twice, secret)
	refused("another body", append(signedBody, ' '), genuine, secret)
	refused("another secret", signedBody, genuine, "another", "whsec_AA==")
	refused("nothing", nil, http.Header{}, secret)
	byBody, err := mathub.NewReceiver(secret)
	require.NoError(t, err)
	byBody.BodySignature = true
	for _, wrong := range []string{"", strings.Repeat("0", 64), strings.ToUpper(genuine.Get("X-Mathub-Signature")), "é"} {
		header := genuine.Clone()
		header.Set("X-Mathub-Signature", wrong)
		_, err = byBody.Verify(signedBody, header)
		require.ErrorIs(t, err, mathub.ErrNotGenuine, wrong)
	}
	for _, text := range []string{"", "null", "[]", `"x"`, `{"event":1,"data":{}}`, `{"event":"x"}`, `{"event":"x","data":null}`, `{"event":"x","data":[]}`, "{\"event\":\"x\",\"data\":{\"a\":\"\xff\"}}"} {
		refused(text, []byte(text), mathub.Sign([]byte(text), secret, "evt_1", time.Now()), secret)
	}
}

func TestVerify_Tolerance(t *testing.T) {
	receiver, err := mathub.NewReceiver(secret)
	require.NoError(t, err)
	verify := func(off time.Duration) error {
		_, err := receiver.Verify(signedBody, mathub.Sign(signedBody, secret, "evt_1", time.Now().Add(off)))
		return err
	}
	for _, off := range []time.Duration{-290 * time.Second, 290 * time.Second} {
		require.NoError(t, verify(off))
	}
	for _, off := range []time.Duration{-310 * time.Second, 310 * time.Second} {
		require.ErrorIs(t, verify(off), mathub.ErrNotGenuine)
	}
	receiver.Tolerance = time.Hour
	require.NoError(t, verify(-50*time.Minute))
}

// TestVerify_WhileTheSecretIsChanged: one signature of several is enough, and one secret of several.
func TestVerify_WhileTheSecretIsChanged(t *testing.T) {
	const old = "whsec_b2xkLW9sZC1vbGQtb2xkLW9sZC1vbGQtb2xkLW9sZA=="
	both := webhook.Headers(webhook.Delivery{EventID: "e", Type: webhook.PostCreated, At: time.Now(), Body: signedBody, Secrets: []string{secret, old}})
	for _, by := range [][]string{{secret}, {old}, {old, secret}, {"another", old}} {
		_, err := mathub.Verify(signedBody, both, by...)
		require.NoError(t, err, by)
	}
	apart := both.Clone()
	apart["Webhook-Signature"] = strings.Split(both.Get("Webhook-Signature"), " ")
	_, err := mathub.Verify(signedBody, apart, old)
	require.NoError(t, err)
}

// TestVerify_TheFirstTenSignatures: who sends more makes no more work, and gets nowhere.
func TestVerify_TheFirstTenSignatures(t *testing.T) {
	header := mathub.Sign(signedBody, secret, "evt_1", time.Now())
	own := header.Get("webhook-signature")
	for others, genuine := range map[int]bool{9: true, 10: false} {
		header.Set("webhook-signature", strings.Repeat("v1,AA== ", others)+own)
		_, err := mathub.Verify(signedBody, header, secret)
		require.Equal(t, genuine, err == nil, "after %d", others)
	}
}

func TestVerify_NoSecret(t *testing.T) {
	for _, by := range [][]string{nil, {""}, {"whsec_"}, {secret, ""}} {
		_, err := mathub.Verify(signedBody, mathub.Sign(signedBody, secret, "e", time.Now()), by...)
		require.ErrorContains(t, err, "the secret is empty")
		require.NotErrorIs(t, err, mathub.ErrNotGenuine, "it is the caller's mistake")
	}
}

// TestNewReceiver_ACutSecret: a double click on a secret leaves out the = at its end.
func TestNewReceiver_ACutSecret(t *testing.T) {
	for _, cut := range []string{"whsec_!!", "whsec_AA", "whsec_AA=", "whsec_A\nA==", "whsec__w=="} {
		_, err := mathub.NewReceiver(cut)
		require.ErrorContains(t, err, "its end may be missing", cut)
	}
}

func TestNewReceiver_ASecretWithWhiteSpaceAround(t *testing.T) {
	for _, altered := range []string{secret + "\n", " " + secret, secret + "\r\n"} {
		_, err := mathub.NewReceiver(altered)
		require.ErrorContains(t, err, "white space")
		require.NotContains(t, err.Error(), secret)
	}
}

// TestReceived_Data: each type of the catalog has its struct, and what is not as documented is raw.
func TestReceived_Data(t *testing.T) {
	for _, spec := range webhook.Catalog() {
		body := []byte(`{"event":"` + string(spec.Type) + `","test":true,"data":` + string(spec.ExampleData()) + `}`)
		event, err := mathub.Verify(body, mathub.Sign(body, secret, "e", time.Now()), secret)
		require.NoError(t, err)
		require.True(t, event.Test)
		again, err := json.Marshal(event.Data)
		require.NoError(t, err)
		require.NotEqual(t, event.Raw, event.Data, "%s has no struct", spec.Type)
		require.JSONEq(t, string(spec.ExampleData()), string(again))
	}
	for _, body := range []string{`{"event":"comment.created","data":{"a":1}}`, `{"event":"post.created","data":{"body":1}}`} {
		event, err := mathub.Verify([]byte(body), mathub.Sign([]byte(body), secret, "e", time.Now()), secret)
		require.NoError(t, err)
		require.Equal(t, event.Raw, event.Data)
	}
}

func TestHandler(t *testing.T) {
	receiver, err := mathub.NewReceiver("old", secret)
	require.NoError(t, err)
	receiver.Limit = 1000
	var handled []string
	var fails error
	server := httptest.NewServer(receiver.Handler(func(_ context.Context, event mathub.Received) error {
		handled = append(handled, event.ID)
		return fails
	}))
	t.Cleanup(server.Close)
	send := func(method string, header http.Header, body string) (int, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, server.URL, strings.NewReader(body))
		require.NoError(t, err)
		request.Header = header
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		text, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return response.StatusCode, string(text)
	}
	signed := func(id, body string) http.Header { return mathub.Sign([]byte(body), secret, id, time.Now()) }

	status, _ := send("POST", signed("e1", string(signedBody)), string(signedBody))
	require.Equal(t, http.StatusNoContent, status)
	asks := `{"event":"webhook.verify","data":{"nonce":"n0nce"}}`
	status, text := send("POST", signed("e2", asks), asks)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "n0nce", text)
	replay := signed("e1", string(signedBody))
	replay.Set("webhook-id", "e3")
	status, text = send("POST", replay, string(signedBody))
	require.Equal(t, http.StatusUnauthorized, status)
	require.Contains(t, text, "webhook-signature is missing or wrong")
	large := `{"event":"test","data":{"a":"` + strings.Repeat("a", 1000) + `"}}`
	status, _ = send("POST", signed("e4", large), large)
	require.Equal(t, http.StatusRequestEntityTooLarge, status)
	status, _ = send("GET", signed("e5", ""), "")
	require.Equal(t, http.StatusMethodNotAllowed, status)
	require.Equal(t, http.StatusBadRequest, brokenOff(t, server.Listener.Addr().String()))
	require.Equal(t, []string{"e1"}, handled)
	fails = errors.New("the database is away")
	status, text = send("POST", signed("e6", string(signedBody)), string(signedBody))
	require.Equal(t, http.StatusInternalServerError, status)
	require.Empty(t, text, "a stranger learns nothing")
}

// brokenOff is the answer to a request whose chunked body is none.
func brokenOff(t *testing.T, address string) int {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	_, err = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nnone\r\n")
	require.NoError(t, err)
	answer, err := io.ReadAll(io.LimitReader(conn, 12)) // HTTP/1.1 400
	require.NoError(t, err)
	require.Len(t, answer, 12)
	return int(answer[9]-'0')*100 + int(answer[10]-'0')*10 + int(answer[11]-'0')
}

// TestVerify_PublicKey: a public key verifies what its private key has signed, and makes no signature right that anyone could
// make with it as a secret.
func TestVerify_PublicKey(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	key := "whpk_" + base64.StdEncoding.EncodeToString(public)
	body := []byte(`{"event":"post.created","timestamp":"2025-03-20T10:30:00.000Z","data":{}}`)
	header := mathub.Sign(body, "shared", "evt_1", time.Now())
	text := "evt_1." + header.Get("webhook-timestamp") + "." + string(body)
	own := "v1a," + base64.StdEncoding.EncodeToString(ed25519.Sign(private, []byte(text)))
	verify := func(signature string, secrets ...string) error {
		h := header.Clone()
		h.Set("webhook-signature", signature)
		_, err := mathub.Verify(body, h, secrets...)
		return err
	}
	for _, secrets := range [][]string{{key}, {"another", key}, {"shared"}} {
		require.NoError(t, verify(header.Get("webhook-signature")+" "+own, secrets...))
	}
	forged := mathub.Sign(body, key, "evt_1", time.Now()).Get("webhook-signature")
	for _, signature := range []string{"", "v1a,", "v1a,AAAA", header.Get("webhook-signature"), strings.Replace(own, "v1a,", "v1,", 1), forged, forged + " " + strings.Replace(forged, "v1,", "v1a,", 1)} {
		require.ErrorIs(t, verify(signature, key), mathub.ErrNotGenuine, signature)
	}
	for _, before := range []string{" ", `"`, "\ufeff", "v1a,", "\n"} { // a secret that everybody knows
		_, err = mathub.NewReceiver(before + key)
		require.ErrorContains(t, err, "must begin with whpk_")
	}
	_, err = mathub.NewReceiver("whpk_AAAA")
	require.ErrorContains(t, err, "32 bytes")
}
