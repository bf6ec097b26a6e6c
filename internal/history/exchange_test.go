package history

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/webhook"
)

func sentDelivery(secrets ...string) webhook.Delivery {
	return webhook.Delivery{
		ID: uuid.New(), EventID: webhook.NewID(), Type: webhook.PostCreated, At: time.Now(), Body: []byte("{}"), Secrets: secrets, Version: "v0.1.0",
	}
}

// usualResponse are the headers of an everyday answer.
func usualResponse() http.Header {
	return http.Header{
		"Content-Type": {"text/plain; charset=utf-8"}, "Content-Length": {"2"}, "Date": {"Thu, 20 Mar 2025 10:30:00 GMT"},
		"Server": {"nginx"}, "Connection": {"keep-alive"},
	}
}

func TestDecodeExchange_AsItWas(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sent webhook.Delivery
		resp egress.Response
	}{
		"usual":       {sentDelivery("s"), egress.Response{Header: usualResponse(), Timings: egress.Timings{DNS: time.Millisecond, Connect: 2 * time.Millisecond, TLS: 3 * time.Millisecond, FirstByte: time.Second}, Duration: 2 * time.Second}},
		"unsigned":    {sentDelivery(), egress.Response{Header: usualResponse()}},
		"two secrets": {sentDelivery("new", "old"), egress.Response{Header: http.Header{"Via": {"a", "b"}, "X-Odd": {"\xff\x00"}}}},
		"no headers":  {sentDelivery("s"), egress.Response{Header: http.Header{}}},
		"no response": {sentDelivery("s"), egress.Response{Timings: egress.Timings{DNS: time.Microsecond}}},
	} {
		header := webhook.Headers(c.sent)
		header.Set("Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
		stored := EncodeExchange(Sent{Header: header, URL: "https://example.com/hook"}, c.resp)
		got, err := DecodeExchange(stored, webhook.Delivery{ID: c.sent.ID, EventID: c.sent.EventID, Type: c.sent.Type})
		require.NoError(t, err, name)
		header.Del("X-Mathub-Signature")
		header.Del("Webhook-Signature")
		require.Equal(t, Exchange{Request: header, Response: c.resp.Header, Timings: c.resp.Timings, Total: c.resp.Duration}, got, name)
		for cut := range stored {
			_, _ = DecodeExchange(stored[:cut], c.sent) // does not panic
		}
	}
	_, err := DecodeExchange([]byte{exchangeVersion + 1}, webhook.Delivery{})
	require.ErrorIs(t, err, errExchange)
}

func TestDecodeExchange_PhaseThatHappenedIsNeverZero(t *testing.T) {
	t.Parallel()
	d := sentDelivery()
	got, err := DecodeExchange(EncodeExchange(Sent{Header: webhook.Headers(d)}, egress.Response{Timings: egress.Timings{TLS: time.Nanosecond}, Duration: 1001 * time.Nanosecond}), d)
	require.NoError(t, err)
	require.Equal(t, egress.Timings{TLS: time.Microsecond}, got.Timings)
	require.Equal(t, 2*time.Microsecond, got.Total, "rounded as its parts are")
}

func TestEncodeExchange_KeepsResponseHeadersWithinBounds(t *testing.T) {
	t.Parallel()
	d := sentDelivery()
	kept := func(h http.Header) (count, size int) {
		stored := EncodeExchange(Sent{Header: webhook.Headers(d)}, egress.Response{Header: h})
		got, err := DecodeExchange(stored, d)
		require.NoError(t, err)
		for name, values := range got.Response {
			for _, v := range values {
				count, size = count+1, size+len(name)+len(v)
			}
		}
		return count, size
	}
	many, large := http.Header{}, http.Header{"Content-Security-Policy": {strings.Repeat("x", 5000)}, "Server": {"nginx"}}
	for i := range 200 {
		many[fmt.Sprintf("X-%03d", i)] = []string{"v"}
	}
	count, _ := kept(many)
	require.Equal(t, maxResponseHeaders, count)
	count, _ = kept(large)
	require.Equal(t, 1, count, "one that is too large does not hide the others")
	for i := range 40 {
		large[fmt.Sprintf("X-%03d", i)] = []string{strings.Repeat("y", 200)}
	}
	_, size := kept(large)
	require.LessOrEqual(t, size, maxResponseHeaderBytes)
	require.Greater(t, size, maxResponseHeaderBytes-300)
}

// TestEncodeExchange_KeepsNothingToTryOutOrReplay: neither a signature, which beside the payload gives a weak secret away,
// nor a credential, nor a token of the URL, however the receiver repeats them.
func TestEncodeExchange_KeepsNothingToTryOutOrReplay(t *testing.T) {
	t.Parallel()
	const url = "https://example.com/hooks/pathtoken/a%2Btoken%3D?key=querytoken&v=1"
	d := sentDelivery("weak", "old")
	request := webhook.Headers(d)
	hex, standard := request.Get("X-Mathub-Signature"), strings.Fields(request.Get("Webhook-Signature"))
	resp := egress.Response{Header: http.Header{
		"Set-Cookie": {"sid=canary"}, "Authorization": {"Bearer canary"}, "X-Auth-Token": {"canary"}, "X-Api-Key": {"canary"}, "X-Session-Id": {"canary"},
		"X-Mathub-Signature": {hex}, "Webhook-Signature": {strings.Join(standard, " ")},
		"Location": {"https://www.example.com/hooks/pathtoken/a%2Btoken%3D/?v=1&key=querytoken"}, "Refresh": {"0; url=/login?next=%2Fhooks%2Fa%252Btoken%253D%3Fkey%3Dquerytoken"},
		"X-Echo": {hex, "got " + standard[1], "a+token="}, "Server": {"nginx"}, "Www-Authenticate": {`Basic realm="hooks"`},
	}}
	stored := EncodeExchange(Sent{Header: request, URL: url}, resp)
	got, err := DecodeExchange(stored, d)
	require.NoError(t, err)
	for _, secret := range []string{"canary", hex, strings.TrimPrefix(standard[0], "v1,"), strings.TrimPrefix(standard[1], "v1,"), "pathtoken", "querytoken", "a+token", "a%2Btoken", "a%252Btoken"} {
		require.NotContains(t, fmt.Sprint(got), secret)
	}
	require.Equal(t, http.Header{
		"Location": {"https://www.example.com/hooks/***/***/?v=1&key=***"}, "Refresh": {"0; url=/login?next=%2Fhooks%2F***%3Fkey%3D***"},
		"X-Echo": {"***", "got v1,***", "***"}, "Server": {"nginx"}, "Www-Authenticate": {`Basic realm="hooks"`},
	}, got.Response)

	body := HideSecrets([]byte("got "+hex+" and "+standard[0]), Sent{Header: request, URL: url})
	require.Equal(t, "got "+strings.Repeat("*", 64)+" and v1,"+strings.Repeat("*", 44), string(body))
}

// TestEncodeExchange_NamesOwnHeadersOnly: of a webhook's own headers the history has the names; their values are nowhere, not
// even where the receiver repeats them.
func TestEncodeExchange_NamesOwnHeadersOnly(t *testing.T) {
	t.Parallel()
	d := sentDelivery("s")
	d.Custom = webhook.CustomHeaders{"Authorization": "Bearer canary", "X-Tenant": "tenant-canary"}
	resp := egress.Response{Header: http.Header{"X-Echo": {"Bearer canary", "canary of tenant-canary"}}}
	got, err := DecodeExchange(EncodeExchange(Sent{Header: webhook.Headers(d), Custom: d.Custom}, resp), d)
	require.NoError(t, err)
	require.Equal(t, []string{"***", "***"}, []string{got.Request.Get("Authorization"), got.Request.Get("X-Tenant")})
	require.NotContains(t, fmt.Sprint(got), "canary")
}

// TestHideSecrets: what a receiver that repeats all it knows is not kept, and the rest of its answer is.
func TestHideSecrets(t *testing.T) {
	t.Parallel()
	const url = "https://example.com/in/path-token/longer%2Btoken%3d?key=query:token&v=1&both=tokens"
	sent := Sent{URL: url, Secrets: []string{"whsec_c2VjcmV0LW9mLXRoZS13ZWJob29r", "the secret before"}, Custom: webhook.CustomHeaders{"Authorization": "Bearer t0k-en", "X-Short": "short"}}
	for answer, want := range map[string]string{
		"no echo": "no echo",
		"ok":      "ok",
		"":        "",
		"404: /in/path-token/longer%2Btoken%3d?key=query:token&v=1":      "404: /in/**********/*****************?key=***********&v=1",
		`{"path":"\/in\/path-token\/longer+token=","key":"query:token"}`: `{"path":"\/in\/**********\/*************","key":"***********"}`,
		"next=%2Fin%2Flonger%2Btoken%3D%3Fkey%3Dquery%3Atoken":           "next=%2Fin%2F*****************%3Fkey%3D*************",
		"next=longer%252Btoken%253d":                                     "next=*********************",
		"MATHUB_SECRET=whsec_c2VjcmV0LW9mLXRoZS13ZWJob29r":               "MATHUB_SECRET=" + strings.Repeat("*", 34),
		"key c2VjcmV0LW9mLXRoZS13ZWJob29r":                               "key " + strings.Repeat("*", 28),
		"or the secret before":                                           "or *****************",
		"wrong: Bearer t0k-en":                                           "wrong: *************",
		"wrong token t0k-en, not short":                                  "wrong token ******, not short",
	} {
		require.Equal(t, want, string(HideSecrets([]byte(answer), sent)))
		require.Len(t, want, len(answer))
	}
}

// TestHideSecrets_AsTheAnswerSpellsThem: in JSON, a URL or HTML, decoded as a server reads them, or cut off.
func TestHideSecrets_AsTheAnswerSpellsThem(t *testing.T) {
	t.Parallel()
	const bearer, quoted = "abc/def+ghi==", `a"b\c<d>&e`
	basic := base64.StdEncoding.EncodeToString([]byte("account:pass word"))
	sent := Sent{Secrets: []string{"whsec_abcd/efg+h=="}, Custom: webhook.CustomHeaders{"Authorization": "Bearer " + bearer, "X-Quoted": quoted, "X-Basic": "Basic " + basic}}
	for _, answer := range []string{
		`abc\/def+ghi==`, `abc/def\u002Bghi==`, "abc%2Fdef%2Bghi%3D%3D", `whsec_abcd\/efg+h==`, "abcd%2Fefg%2Bh%3D%3D",
		`a\"b\\c<d>&e`, `a\"b\\c\u003cd\u003e\u0026e`, `a\u0022b\\c\u003Cd\u003E\u0026e`, `a&#34;b\c&lt;d&gt;&amp;e`, basic, "account:pass word", "pass word", "pass+word",
		bearer[:minHidden], "Bearer " + bearer[:5], basic[:len(basic)-1],
	} {
		require.Equal(t, "got "+strings.Repeat("*", len(answer)), string(HideSecrets([]byte("got "+answer), sent)), answer)
	}
	require.Equal(t, "got abc/d", string(HideSecrets([]byte("got abc/d"), sent)), "too short to be of use")
}

func BenchmarkHideSecrets(b *testing.B) {
	sent := Sent{Header: webhook.Headers(sentDelivery("s")), URL: "https://example.com/hooks/0123456789abcdef?key=0123456789abcdef", Secrets: []string{"whsec_c2VjcmV0LW9mLXRoZS13ZWJob29r"}}
	for name, body := range map[string][]byte{"short": []byte("ok"), "usual": []byte(`{"status":"ok","id":"0123456789"}`), "longest": bytes.Repeat([]byte("<p>failed</p>"), 315)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				HideSecrets(body, sent)
			}
		})
	}
}

func BenchmarkEncodeExchange(b *testing.B) {
	header, resp := webhook.Headers(sentDelivery("s")), egress.Response{Header: usualResponse(), Timings: egress.Timings{FirstByte: time.Millisecond}}
	b.ReportAllocs()
	size := 0
	for b.Loop() {
		size = len(EncodeExchange(Sent{Header: header, URL: "https://hooks.example.com/mathub/incoming?token=0195b2f05a3e7c1d"}, resp))
	}
	b.ReportMetric(float64(size), "bytes/row")
}

// oddURL has as many parts with escapes as fit, and oddResponse more headers than are kept.
func oddURL() string {
	var parts []string
	for i, size := 0, len("https://e.co/"); size+len("a%2b000x/") <= webhook.MaxURLBytes; i, size = i+1, size+len("a%2b000x/") {
		parts = append(parts, fmt.Sprintf("a%%2b%03dx", i))
	}
	return "https://e.co/" + strings.Join(parts, "/")
}

func oddResponse() http.Header {
	h := http.Header{}
	for i := range 4000 {
		h[fmt.Sprintf("A%x", i)] = []string{"aaaaaaaaa"}
	}
	return h
}

// BenchmarkOddExchange is what a bot can make a delivery cost by its URL and its answer.
func BenchmarkOddExchange(b *testing.B) {
	request, url, resp := webhook.Headers(sentDelivery("s")), oddURL(), egress.Response{Header: oddResponse()}
	body := bytes.Repeat([]byte("a+0"), webhook.MaxResponseBody/3)
	b.Run("headers", func(b *testing.B) {
		for b.Loop() {
			EncodeExchange(Sent{Header: request, URL: url}, resp)
		}
	})
	b.Run("body", func(b *testing.B) {
		for b.Loop() {
			HideSecrets(body, Sent{Header: request, URL: url})
		}
	})
}

// TestHideSecrets_ManyParts: all parts of a URL are hidden, however many it has.
func TestHideSecrets_ManyParts(t *testing.T) {
	t.Parallel()
	url := oddURL()
	_, path, _ := strings.Cut(url, "e.co/")
	parts := strings.Split(path, "/")
	require.Greater(t, len(parts), 200)
	for _, answer := range []string{parts[0], parts[len(parts)-1], strings.ReplaceAll(parts[100], "%2b", "+")} {
		require.Equal(t, "at "+strings.Repeat("*", len(answer))+"!", string(HideSecrets([]byte("at "+answer+"!"), Sent{URL: url})))
		d := sentDelivery()
		got, err := DecodeExchange(EncodeExchange(Sent{URL: url}, egress.Response{Header: http.Header{"X-Echo": {"at " + answer + "!"}}}), d)
		require.NoError(t, err)
		require.Equal(t, http.Header{"X-Echo": {"at ***!"}}, got.Response)
	}
}

// TestEncodeExchange_OddExchangeIsCheap: what is done is not the product of what a webhook's owner chooses, the parts of its
// URL and the headers that it answers. It took 160 ms, of which a busy machine takes none away.
func TestEncodeExchange_OddExchangeIsCheap(t *testing.T) {
	t.Parallel()
	request, url, resp := webhook.Headers(sentDelivery("s")), oddURL(), egress.Response{Header: oddResponse()}
	least := time.Hour
	for tries := 0; least > 30*time.Millisecond && tries < 50; tries++ {
		began := time.Now()
		EncodeExchange(Sent{Header: request, URL: url}, resp)
		least = min(least, time.Since(began))
	}
	require.LessOrEqual(t, least, 30*time.Millisecond)
}
