package api_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
)

// signers are those of the public keys whose signature the last delivery has, in the order of its entries.
func (s *system) signers(t *testing.T, keys ...string) (found []string) {
	t.Helper()
	all := s.requests()
	sent := all[len(all)-1]
	signed := sent.header.Get("Webhook-Id") + "." + sent.header.Get("Webhook-Timestamp") + "." + sent.body
	for entry := range strings.FieldsSeq(sent.header.Get("Webhook-Signature")) {
		encoded, is := strings.CutPrefix(entry, "v1a,")
		if !is {
			continue
		}
		signature, err := base64.StdEncoding.DecodeString(encoded)
		require.NoError(t, err)
		for _, key := range keys {
			public, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(key, "whpk_"))
			require.NoError(t, err)
			if ed25519.Verify(public, []byte(signed), signature) {
				found = append(found, key)
			}
		}
	}
	return found
}

// TestAKeyPairSignsBesideTheSecret, through its rotations and until it is removed.
func TestAKeyPairSignsBesideTheSecret(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, key := s.bot()
	path := webhooksPath + "/" + s.subscribe(key, "")
	keys := func(got answer) []string {
		t.Helper()
		require.Equal(t, http.StatusOK, got.status, "%s", got.body)
		var view struct{ PublicKeys []string }
		got.into(t, &view)
		return view.PublicKeys
	}
	rotate := func(body any) []string { t.Helper(); return keys(s.do("POST", path+"/signing-key", key, body)) }
	test := func() {
		t.Helper()
		require.Equal(t, http.StatusOK, s.do("POST", path+"/test", key, nil).status)
	}
	require.Equal(t, []string{}, keys(s.do("GET", path, key, nil)))
	test()
	require.Empty(t, s.signers(t))

	first := rotate(nil)
	require.Len(t, first, 1)
	test()
	require.Equal(t, first, s.signers(t, first...))
	sent := s.requests()
	require.NotEmpty(t, sent[len(sent)-1].header.Get("X-Mathub-Signature"), "the secret signs as before")
	require.Equal(t, 2, len(strings.Fields(sent[len(sent)-1].header.Get("Webhook-Signature"))))
	require.Equal(t, first, keys(s.do("PATCH", path, key, `{"headers":{"X-A":"v"},"secret":null}`)), "other changes leave it alone")
	test()
	require.Equal(t, first, s.signers(t, first...), "also without a secret")

	second := rotate(`{"overlap":"1h"}`)
	require.Equal(t, first[0], second[1])
	for _, again := range []any{nil, `{"overlap":"1h"}`} {
		require.Equal(t, http.StatusConflict, s.do("POST", path+"/signing-key", key, again).status, "repeated, it would take the first from receivers")
	}
	test()
	require.Equal(t, second, s.signers(t, second...))
	third := rotate(`{"overlap":"0s"}`)
	require.Len(t, third, 1)
	test()
	require.Equal(t, third, s.signers(t, append(second, third...)...), "the one before ends at once")

	// When its overlap is over, the key before signs no more, is not shown, and is forgotten.
	rotate(`{"overlap":"1s"}`)
	require.Eventually(t, func() bool { return len(keys(s.do("GET", path, key, nil))) == 1 }, 3*time.Minute, 50*time.Millisecond)
	test()
	fourth := keys(s.do("GET", path, key, nil))
	require.Equal(t, fourth, s.signers(t, append(third, fourth...)...))
	changed, err := db.Reseal(t.Context(), s.pool, s.keyset)
	require.NoError(t, err)
	require.Equal(t, 1, changed)
	test()
	require.Equal(t, fourth, s.signers(t, fourth...))

	audit := string(s.do("GET", "/api/bot/v1/audit", key, nil).body)
	require.Contains(t, audit, fourth[0], "who changed it, and to what")
	for range 2 {
		require.Equal(t, http.StatusNoContent, s.do("DELETE", path+"/signing-key", key, nil).status)
	}
	test()
	require.Empty(t, s.signers(t, fourth...))
	require.Equal(t, []string{"X-A"}, func() []string {
		var view struct{ HeaderNames []string }
		s.do("GET", path, key, nil).into(t, &view)
		return view.HeaderNames
	}())

	for _, body := range []string{`{"overlap":"169h"}`, `{"overlap":"-1s"}`, `{"overlap":1}`} {
		require.Equal(t, []string{"overlap"}, s.do("POST", path+"/signing-key", key, body).fields(t), body)
	}
	_, other := s.bot()
	require.Equal(t, http.StatusNotFound, s.do("POST", path+"/signing-key", other, nil).status)
	require.Equal(t, http.StatusNotFound, s.do("DELETE", path+"/signing-key", other, nil).status)
}
