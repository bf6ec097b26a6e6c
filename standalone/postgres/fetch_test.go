package postgres

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFetch fetches from a repository like Maven Central, whose archive holds programs that know their version only.
func TestFetch(t *testing.T) {
	programs, err := os.ReadFile("testdata/programs.txz")
	require.NoError(t, err)
	var archive bytes.Buffer
	writer := zip.NewWriter(&archive)
	entry, err := writer.Create("postgres.txz")
	require.NoError(t, err)
	_, err = entry.Write(programs)
	require.NoError(t, err)
	require.NoError(t, writer.Close())
	sum := sha256.Sum256(archive.Bytes())
	checksum := hex.EncodeToString(sum[:])

	for name, c := range map[string]struct {
		checksum string // empty: there is none
		wanted   string // of the error
	}{
		"whole":                   {checksum: checksum},
		"with the archive's name": {checksum: checksum + "  postgres.jar\n"},
		"another checksum":        {checksum: strings.Repeat("0", 64), wanted: "does not have the SHA-256"},
		"no checksum":             {wanted: "404"},
		"a page for a checksum":   {checksum: "<html>", wanted: "does not have the SHA-256"},
	} {
		t.Run(name, func(t *testing.T) {
			var downloads int
			repository := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case !strings.HasSuffix(r.URL.Path, ".sha256"):
					downloads++
					_, _ = w.Write(archive.Bytes())
				case c.checksum != "":
					_, _ = w.Write([]byte(c.checksum))
				default:
					http.NotFound(w, r)
				}
			}))
			defer repository.Close()
			cache := filepath.Join(t.TempDir(), "cache")
			config := Config{Cache: cache, Repository: repository.URL}

			fetched, err := fetch(t.Context(), config, account{}, 0)
			if c.wanted != "" {
				require.ErrorContains(t, err, c.wanted)
				left, err := os.ReadDir(cache)
				require.NoError(t, err)
				require.Empty(t, left, "what was not checked must not stay")
				return
			}
			require.NoError(t, err)
			require.Equal(t, "18.3", fetched.version)
			require.Equal(t, 18, fetched.major)

			again, err := fetch(t.Context(), config, account{}, 18)
			require.NoError(t, err)
			require.Equal(t, fetched, again)
			require.Equal(t, 1, downloads, "the second time it is there already")
			entries, err := os.ReadDir(cache)
			require.NoError(t, err)
			require.Len(t, entries, 1, "nothing but the programs is kept")
		})
	}
}

func TestFetchUnknownVersion(t *testing.T) {
	_, err := fetch(t.Context(), Config{Cache: t.TempDir()}, account{}, 9)
	require.ErrorContains(t, err, "version 9")
}
