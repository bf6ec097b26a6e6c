package webhook_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

// TestSignAsymmetric: the signature is of the text that the secret signs too, stands beside the secret's, and the public key
// that is shown verifies it.
func TestSignAsymmetric(t *testing.T) {
	t.Parallel()
	key, err := webhook.NewKey()
	require.NoError(t, err)
	encoded, ok := strings.CutPrefix(webhook.PublicKey(key), "whpk_")
	require.True(t, ok)
	public, err := base64.StdEncoding.DecodeString(encoded)
	require.NoError(t, err)
	require.Len(t, public, ed25519.PublicKeySize)

	d := webhook.Delivery{EventID: "evt-1", At: time.Unix(1614265330, 0), Body: []byte(`{"a":1}`), Keys: []ed25519.PrivateKey{key}}
	alone := webhook.Headers(d)
	require.NotContains(t, alone, "X-Mathub-Signature", "which only a secret gives")
	signature, ok := strings.CutPrefix(alone.Get("Webhook-Signature"), "v1a,")
	require.True(t, ok)
	raw, err := base64.StdEncoding.DecodeString(signature)
	require.NoError(t, err)
	require.True(t, ed25519.Verify(public, []byte(`evt-1.1614265330.{"a":1}`), raw))

	d.Secrets = []string{"s"}
	require.Equal(t, webhook.SignStandard("s", d.EventID, d.At, d.Body)+" v1a,"+signature, webhook.Headers(d).Get("Webhook-Signature"))
	for _, before := range []string{"", `"`, "v1a,"} {
		require.ErrorContains(t, webhook.ValidateSecret(before+webhook.PublicKey(key)), "public key")
	}
}
