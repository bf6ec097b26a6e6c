//go:build unix

package egress

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func init() { children["roots"] = childRoots }

func childRoots() int {
	for name, value := range map[string]string{"SSL_CERT_FILE": os.Getenv("CHILD_ARGUMENTS"), "SSL_CERT_DIR": "/nonexistent"} {
		must(os.Setenv(name, value))
	}
	r, err := New(Options{Allow: loopback}).Post(context.Background(), os.Getenv("CHILD_URL"), nil, []byte("{}"))
	fmt.Printf("%q %v\n", r.Error, errors.Is(err, errNoRoots))
	return 0
}

// An image without ca-certificates finds every receiver's certificate to be of an unknown authority.
func TestAMachineWithoutAuthoritiesBlamesNoReceiver(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	r := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{a.issue(t, nil)}}, answerTLS)
	other := t.TempDir() + "/other.pem"
	require.NoError(t, os.WriteFile(other, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: newAuthority(t).certificate.Raw}), 0o600))
	for name, c := range map[string]struct{ bundle, want string }{
		"none":                    {"/nonexistent", `"" true`},
		"an empty one":            {os.DevNull, `"" true`},
		"one that cannot be read": {t.TempDir(), `"" true`},
		"one without this one":    {other, `"tls: unknown authority" false`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want+"\n", runChild(t, "roots", r.URL, c.bundle))
		})
	}
}
