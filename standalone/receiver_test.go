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
		anotherID  bool
		age        time.Duration
		refused    bool
		wanted     []string
	}{
		"right":      {signedWith: []string{"a"}, checked: "a", wanted: []string{"✓ X-Mathub-Signature", "✓ webhook-signature"}},
		"encoded":    {signedWith: []string{"whsec_YWJj"}, checked: "whsec_YWJj", wanted: []string{"✓ X-Mathub-Signature", "✓ webhook-signature"}},
		"rotated":    {signedWith: []string{"new", "old"}, checked: "old", wanted: []string{"✗ X-Mathub-Signature", "✓ webhook-signature"}},
		"another":    {signedWith: []string{"a"}, checked: "b", refused: true, wanted: []string{"✗ X-Mathub-Signature", "✗ webhook-signature"}},
		"tampered":   {signedWith: []string{"a"}, checked: "a", tampered: true, refused: true, wanted: []string{"✗ X-Mathub-Signature", "✗ webhook-signature"}},
		"replayed":   {signedWith: []string{"a"}, checked: "a", anotherID: true, refused: true, wanted: []string{"✓ X-Mathub-Signature", "✗ webhook-signature"}},
		"old":        {signedWith: []string{"a"}, checked: "a", age: 6 * time.Minute, refused: true, wanted: []string{"✓ webhook-signature", "5 minutes off"}},
		"early":      {signedWith: []string{"a"}, checked: "a", age: -6 * time.Minute, refused: true, wanted: []string{"5 minutes off"}},
		"unchecked":  {signedWith: []string{"a"}, wanted: []string{"Start the receiver with --secret"}},
		"not signed": {checked: "a", refused: true, wanted: []string{"Not signed"}},
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
				ID: uuid.New(), EventID: "e1", Type: webhook.Test, At: time.Now().Add(-c.age), Body: []byte(body), Secrets: c.signedWith, Version: "1",
			})
			if c.anotherID {
				request.Header.Set("Webhook-Id", "e1-again")
			}
			answer := httptest.NewRecorder()
			r.ServeHTTP(answer, request)
			status := http.StatusTeapot
			if c.refused {
				status = http.StatusUnauthorized
			}
			require.Equal(t, status, answer.Code)
			require.Contains(t, out.String(), "POST /hook")
			require.Contains(t, out.String(), "Webhook-Id: e1")
			require.Contains(t, out.String(), sent)
			for _, text := range c.wanted {
				require.Contains(t, out.String(), text)
			}
		})
	}
}

func TestReceiverAgrees(t *testing.T) {
	body := webhook.VerifyEvent(uuid.New(), "bot", "n0nce", time.Now()).Body()
	for status, want := range map[int]string{http.StatusNoContent: "n0nce", http.StatusInternalServerError: ""} {
		r := &receiver{receiverCommand: &receiverCommand{Status: status}, out: new(bytes.Buffer)}
		answer := httptest.NewRecorder()
		r.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body)))
		require.Equal(t, want, answer.Body.String())
		require.Equal(t, want != "", webhook.Agrees(body, answer.Body.Bytes()))
	}
}
