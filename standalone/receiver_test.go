package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

func TestReceiverChecksSignatures(t *testing.T) {
	const body = `{"event":"test"}`
	for name, c := range map[string]struct {
		signedWith []string
		checked    string
		tampered   bool
		wanted     []string
	}{
		"right":      {signedWith: []string{"a"}, checked: "a", wanted: []string{"✓ X-Mathub-Signature", "✓ webhook-signature"}},
		"encoded":    {signedWith: []string{"whsec_YWJj"}, checked: "whsec_YWJj", wanted: []string{"✓ X-Mathub-Signature", "✓ webhook-signature"}},
		"rotated":    {signedWith: []string{"new", "old"}, checked: "old", wanted: []string{"✗ X-Mathub-Signature", "✓ webhook-signature"}},
		"another":    {signedWith: []string{"a"}, checked: "b", wanted: []string{"✗ X-Mathub-Signature", "✗ webhook-signature"}},
		"tampered":   {signedWith: []string{"a"}, checked: "a", tampered: true, wanted: []string{"✗ X-Mathub-Signature", "✗ webhook-signature"}},
		"unchecked":  {signedWith: []string{"a"}, wanted: []string{"Start the receiver with --secret"}},
		"not signed": {checked: "a", wanted: []string{"Not signed"}},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			r := &receiver{receiverCommand: &receiverCommand{Secret: c.checked, Status: http.StatusTeapot}, out: &out}
			sent := body
			if c.tampered {
				sent = strings.Replace(body, "test", "tset", 1)
			}
			request := httptest.NewRequest(http.MethodPost, "/hook", strings.NewReader(sent))
			request.Header = webhook.Headers(webhook.Delivery{
				ID: uuid.New(), EventID: "e1", Type: webhook.Test, At: time.Now(), Body: []byte(body), Secrets: c.signedWith, Version: "1",
			})
			answer := httptest.NewRecorder()
			r.ServeHTTP(answer, request)
			require.Equal(t, http.StatusTeapot, answer.Code)
			require.Contains(t, out.String(), "POST /hook")
			require.Contains(t, out.String(), "Webhook-Id: e1")
			require.Contains(t, out.String(), sent)
			for _, text := range c.wanted {
				require.Contains(t, out.String(), text)
			}
		})
	}
}
