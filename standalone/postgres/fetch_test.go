package postgres

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// archiveOfPrograms is an archive as the repository has it, of programs that know their version only.
func archiveOfPrograms(t *testing.T) []byte {
	t.Helper()
	programs, err := os.ReadFile("testdata/programs.txz")
	require.NoError(t, err)
	var archive bytes.Buffer
	writer := zip.NewWriter(&archive)
	entry, err := writer.Create("postgres.txz")
	require.NoError(t, err)
	_, err = entry.Write(programs)
	require.NoError(t, err)
	require.NoError(t, writer.Close())
	return archive.Bytes()
}

// mavenRepository serves archive under every name and, as whoever tampers with an archive can, its checksum beside it.
// It notes the names of the archives that were asked for.
func mavenRepository(t *testing.T, archive []byte) (url string, downloads *[]string) {
	t.Helper()
	downloads = new([]string)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, checksumSuffix) {
			_, _ = w.Write([]byte(sumOf(archive)))
			return
		}
		*downloads = append(*downloads, path.Base(r.URL.Path))
		_, _ = w.Write(archive)
	}))
	t.Cleanup(server.Close)
	return server.URL, downloads
}

func sumOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// sumsWith are the checksums of the repository with sum in the place of each.
func sumsWith(sum string) string {
	var sums strings.Builder
	for line := range strings.Lines(checksums) {
		_, name, _ := strings.Cut(line, "  ")
		sums.WriteString(sum + "  " + name)
	}
	return sums.String()
}

func TestFetch(t *testing.T) {
	archive := archiveOfPrograms(t)
	repository, downloads := mavenRepository(t, archive)
	cache := filepath.Join(t.TempDir(), "cache")
	config := Config{Cache: cache, Repository: repository, checksums: sumsWith(sumOf(archive))}

	umask := syscall.Umask(0o077)
	fetched, err := fetch(t.Context(), config, account{}, 0)
	require.Equal(t, 0o077, syscall.Umask(umask))
	require.NoError(t, err)
	for _, path := range []string{cache, fetched.dir, fetched.path("initdb")} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.EqualValues(t, 0o005, info.Mode().Perm()&0o005, "another user runs what is in %s", path)
	}
	require.Equal(t, releaseMajor, fetched.major)
	require.Equal(t, string(release), fetched.version+".0")

	again, err := fetch(t.Context(), config, account{}, releaseMajor)
	require.NoError(t, err)
	require.Equal(t, fetched, again)
	require.Len(t, *downloads, 1, "the second time it is there already")
	entries, err := os.ReadDir(cache)
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing but the programs is kept")
}

// TestFetchTampered: what the server says about its archive counts for nothing.
func TestFetchTampered(t *testing.T) {
	archive := archiveOfPrograms(t)
	tampered := bytes.Clone(archive)
	tampered[len(tampered)/2] ^= 1
	for name, c := range map[string]struct {
		served []byte
		sums   string // the released ones when empty
		wanted string // of the error
	}{
		"one bit of it":             {served: tampered, sums: sumsWith(sumOf(archive)), wanted: "another SHA-256"},
		"a whole archive":           {served: archive, wanted: "another SHA-256"},
		"nothing":                   {served: nil, wanted: "another SHA-256"},
		"of a platform without sum": {served: archive, sums: sumOf(archive) + "  embedded-postgres-binaries-plan9-mips-16.15.0.jar\n", wanted: "its SHA-256 is not known"},
	} {
		t.Run(name, func(t *testing.T) {
			repository, _ := mavenRepository(t, c.served)
			cache := filepath.Join(t.TempDir(), "cache")
			_, err := fetch(t.Context(), Config{Cache: cache, Repository: repository, checksums: c.sums}, account{}, 0)
			require.ErrorContains(t, err, c.wanted)
			left, err := os.ReadDir(cache)
			require.NoError(t, err)
			require.Empty(t, left, "what was not checked must not stay")
		})
	}
}

func TestFetchMissing(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	_, err := fetch(t.Context(), Config{Cache: t.TempDir(), Repository: server.URL}, account{}, 0)
	require.ErrorContains(t, err, "404")
}

func TestFetchUnknownVersion(t *testing.T) {
	for _, major := range []int{9, 17} {
		_, err := fetch(t.Context(), Config{Cache: t.TempDir()}, account{}, major)
		require.ErrorContains(t, err, "only 16 is")
	}
}

// TestEveryPlatformHasAChecksum: a release's archives differ by platform, and so do their sums.
func TestEveryPlatformHasAChecksum(t *testing.T) {
	seen := map[string]bool{}
	for _, platform := range []string{"linux-amd64", "linux-arm64v8", "darwin-amd64", "darwin-arm64v8"} {
		sum, err := checksumOf(checksums, "embedded-postgres-binaries-"+platform+"-"+string(release)+".jar")
		require.NoError(t, err)
		require.Regexp(t, "^[0-9a-f]{64}$", sum)
		require.False(t, seen[sum], "%s has the sum of another", platform)
		seen[sum] = true
	}
	require.Equal(t, len(seen), strings.Count(checksums, "\n"), "sums of other releases are of no use")
}
