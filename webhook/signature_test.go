package webhook_test

import (
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

const (
	vectorID   = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorTime = 1614265330
	// vectorSecret is that of the Standard Webhooks libraries' own test vector.
	vectorSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)

// The expected values were computed with Python's hmac, hashlib and base64; the first standard one is the vector that
// the Standard Webhooks libraries carry.
func TestSignatureVectors(t *testing.T) {
	allBytes := make([]byte, 256)
	for i := range allBytes {
		allBytes[i] = byte(i)
	}
	const testBody = `{"event":"test","timestamp":"2025-03-20T10:30:00.000Z","data":{}}`
	for _, c := range []struct{ name, secret, body, legacy, standard string }{
		{"standard webhooks vector", vectorSecret, `{"test": 2432232314}`, "", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
		{
			"empty body", "s", "", "64eca07cce67929c357d63d0a4aec207e774800403298914fc04e88ce02ac49f",
			"v1,WmYM2G217uoc9rlYTUrg2buIQr4j5ieNyiq1VxbA/c0=",
		},
		{
			"plain secret", "my-secret-key-1234", testBody, "02b075c9e940c5ff93e8f5d8639b54cdc2255d88078d0b3ec11c260f3f5d33f4",
			"v1,fnQrjrqlY+oyPy95eJvHxVqLXS4PDvpL23c9khmmMuw=",
		},
		{
			"whsec secret: decoded for one, as it stands for the other", vectorSecret, testBody,
			"0573d951876363c9ab657d0786969910588ae110ea63256610ce5422f90b5187", "v1,xwiqlYq55T9+CyWyjZlFlvREjZeMDfX92xmXTtUIsiw=",
		},
		{
			"non-ASCII secret: its UTF-8", "pässwörd 🔑", testBody,
			"510f7170baea53ab135fe0759edfe3e5e94e456ef846ce5a1b75b8d07afb8a41", "v1,QhXbJyKTfwhJBgokzA9tbiVXZVd3du0g06weEFi63Us=",
		},
		{
			"256 byte secret", strings.Repeat("x", 256), testBody,
			"fb55ae48493c293d96864be3e3eeaeabece384be627c2cb2292fa1cca9ee5f80", "v1,WrYaQn3wELhbIuiFGr8IUyufHBkjIGAKTpujH7kNs2A=",
		},
		{
			"whsec that does not decode: its UTF-8", "whsec_!!", testBody,
			"ff2e57d0ea3cbd3f6f7d33e91f04c2c30a8498e8a321bc0d217fe12422437f01", "v1,p+qui2jYUvvS+uISIg5VslKe5kw1ZYXdefl4LynUqPY=",
		},
		{
			"emoji, <>&, U+2028", "my-secret-key-1234", "{\"a\":\"😀<>&\u2028\"}",
			"7dc44d53ded8b7df47730858803908a032a08592eabe9fa9bc9713860782e19a", "v1,eCDg2fwM0we4nSgWBvekJDJhgOxv04Fdme8CKDU4Bqw=",
		},
		{
			"every byte", vectorSecret, string(allBytes),
			"89e43ece6c74bd5119dfe7cffcb6c1698b55df4f36bf8b6e3b0d7ab76e7ebe54", "v1,sEcZ042G8Crqgxbybb3y0eDxQR3TcfYsk11I1XULhSI=",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.legacy != "" {
				require.Equal(t, c.legacy, webhook.Sign(c.secret, []byte(c.body)))
			}
			require.Equal(t, c.standard, webhook.SignStandard(c.secret, vectorID, time.Unix(vectorTime, 999_999_999), []byte(c.body)))
		})
	}
}

// The receiving side here is Standard Webhooks' own library.
func TestStandardWebhooksLibraryVerifies(t *testing.T) {
	body := []byte(`{"event":"mention","timestamp":"2025-03-20T10:30:00.000Z","data":{"body":"<&>  😀"}}`)
	for _, secret := range []string{vectorSecret, "whsec_AA==", "my-secret-key-1234", "pässwörd"} {
		t.Run(secret, func(t *testing.T) {
			h := webhook.Headers(webhook.Delivery{EventID: "evt-1", Type: webhook.Mention, At: time.Now(), Body: body, Secrets: []string{secret}})
			var receiver *standardwebhooks.Webhook
			var err error
			if strings.HasPrefix(secret, "whsec_") {
				receiver, err = standardwebhooks.NewWebhook(secret)
			} else {
				receiver, err = standardwebhooks.NewWebhookRaw([]byte(secret))
			}
			require.NoError(t, err)
			require.NoError(t, receiver.Verify(body, h))
			require.Error(t, receiver.Verify(append([]byte(" "), body...), h), "another body")

			other := h.Clone()
			other.Set("webhook-id", "evt-2")
			require.Error(t, receiver.Verify(body, other), "another id")
		})
	}
}

func TestStandardWebhooksLibraryVerifiesBothSecretsOfARotation(t *testing.T) {
	body := []byte(`{}`)
	const old = "whsec_b2xkLW9sZC1vbGQtb2xkLW9sZC1vbGQtb2xkLW9sZA=="
	h := webhook.Headers(webhook.Delivery{EventID: "e", At: time.Now(), Body: body, Secrets: []string{vectorSecret, old}})
	require.Len(t, strings.Split(h.Get("webhook-signature"), " "), 2)
	require.Equal(t, webhook.Sign(vectorSecret, body), h.Get("X-Mathub-Signature"), "signed with the current secret")
	for _, secret := range []string{vectorSecret, old} {
		receiver, err := standardwebhooks.NewWebhook(secret)
		require.NoError(t, err)
		require.NoError(t, receiver.Verify(body, h))
	}
	stranger, err := standardwebhooks.NewWebhook("whsec_c3RyYW5nZXI=")
	require.NoError(t, err)
	require.Error(t, stranger.Verify(body, h))
}

func TestValidateSecret(t *testing.T) {
	for _, c := range []struct {
		name, secret string
		valid        bool
	}{
		{"one byte", "s", true},
		{"256 bytes", strings.Repeat("s", 256), true},
		{"257 bytes", strings.Repeat("s", 257), false},
		{"256 bytes of two-byte characters", strings.Repeat("ä", 128), true},
		{"258 bytes of two-byte characters", strings.Repeat("ä", 129), false},
		{"empty", "", false},
		{"blank", " ", false},
		{"a space within", "correct horse", true},
		{"a space at the end", "s3cret ", false},
		{"a space before it", " s3cret", false},
		{"a line break at the end, as of a file", "s3cret\n", false},
		{"a line break of Windows", "s3cret\r\n", false},
		{"a tab", "\ts3cret", false},
		{"a space that does not break", "s3cret\u00a0", false},
		{"a byte order mark", "\ufeffhunter2", false},
		{"a space of no width", "s3cret\u200b", false},
		{"a word joiner", "s3cret\u2060", false},
		{"a joiner", "s3cret\u200d", false},
		{"a non-joiner before it", "\u200chunter2", false},
		{"a mark of direction", "\u200ehunter2", false},
		{"a soft hyphen", "s3cret\u00ad", false},
		{"an embedding", "\u202ahunter2\u202c", false},
		{"a joiner within", "s3\u200dcret", true},
		{"a control character at the end", "s3cret\x1b", false},
		{"a control character within", "s3\x1bcret", true},
		{"whsec with the version before it", "v1," + vectorSecret, false},
		{"the version before another", "v1,s3cret", true},
		{"whsec with a space before it", " " + vectorSecret, false},
		{"NUL", "ab\x00cd", false},
		{"line break", "ab\ncd", true},
		{"invalid UTF-8", "ab\xffcd", false},
		{"half a surrogate pair in UTF-8", "ab\xed\xa0\x80", false},
		{"whsec", vectorSecret, true},
		{"whsec with padding", "whsec_AA==", true},
		{"whsec of nothing", "whsec_", false},
		{"whsec without padding", "whsec_AA", false},
		{"whsec in base64url", "whsec_-_-_", false},
		{"whsec of one letter", "whsec_a", false},
		{"whsec with a line break, which Go's decoder skips", "whsec_AA=\n=", false},
		{"whsec with a trailing line break", "whsec_AAAA\r\n", false},
		{"whsec with a space", "whsec_AA ==", false},
		{"whsec in capitals is plain text", "WHSEC_!", true},
		{"other prefix is plain text", "mhsec_!", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := webhook.ValidateSecret(c.secret)
			if c.valid {
				require.NoError(t, err)
				return
			}
			var invalid *webhook.InvalidError
			require.ErrorAs(t, err, &invalid)
			require.Len(t, invalid.Fields, 1)
			require.Equal(t, "secret", invalid.Fields[0].Field)
			if len(c.secret) > 7 {
				require.NotContains(t, err.Error(), c.secret[6:])
			}
		})
	}
}

func TestNewSecret_IsOneThatTheLibrariesTake(t *testing.T) {
	t.Parallel()
	secret := webhook.NewSecret()
	require.NoError(t, webhook.ValidateSecret(secret))
	require.NotEqual(t, secret, webhook.NewSecret())
	_, err := standardwebhooks.NewWebhook(secret)
	require.NoError(t, err)
	require.Len(t, secret, len("whsec_")+44, "32 bytes")
}
