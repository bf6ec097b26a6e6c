package postgres

import (
	"cmp"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	embedded "github.com/fergusstrange/embedded-postgres"
)

const (
	// repository is where the archives of programs are.
	repository = "https://repo1.maven.org/maven2"
	// release is the one version that is fetched. With a new one, checksums.txt gets new lines.
	release      = embedded.PostgresVersion("16.15.0")
	releaseMajor = 16
	// fetchTimeout bounds a download, maxArchive its size: archives have 10 to 40 MB.
	fetchTimeout = 10 * time.Minute
	maxArchive   = 256 << 20

	checksumSuffix = ".sha256"
)

// checksums are the SHA-256 of release's archives, a line each as sha256sum writes them. They stand here, as a sum from
// the server that has the archive says nothing about either.
//
//go:embed checksums.txt
var checksums string

// checksumOf returns the SHA-256 that an archive must have.
func checksumOf(sums, archive string) (string, error) {
	for line := range strings.Lines(sums) {
		if sum, name, _ := strings.Cut(strings.TrimSpace(line), "  "); name == archive {
			return sum, nil
		}
	}
	return "", fmt.Errorf("%s is not fetched, as its SHA-256 is not known", archive)
}

// fetch returns the programs in the cache, after fetching them there if need be.
func fetch(ctx context.Context, config Config, user account, major int) (programs, error) {
	if major != 0 && major != releaseMajor {
		return programs{}, fmt.Errorf("version %d is not fetched, only %d is", major, releaseMajor)
	}
	cache, err := cacheFolder(config, user)
	if err != nil {
		return programs{}, err
	}
	home := filepath.Join(cache, "postgres-"+string(release))
	bin := filepath.Join(home, "bin")
	if p, err := probe(ctx, user, bin); err == nil {
		return p, nil
	}
	defer syscall.Umask(syscall.Umask(0o022)) // the other user runs them, whatever the umask is
	config.say("none found on this machine, fetching Postgres %s (some 30 MB, once)", release)
	if err := os.MkdirAll(cache, 0o755); err != nil { //nolint:gosec // programs, for the other user to run
		return programs{}, err
	}
	making, err := os.MkdirTemp(cache, "fetching-*")
	if err != nil {
		return programs{}, err
	}
	defer os.RemoveAll(making)                      //nolint:errcheck // at worst a left-over in a cache
	if err := os.Chmod(making, 0o755); err != nil { //nolint:gosec // as above
		return programs{}, err
	}
	if err := download(ctx, config, filepath.Join(making, "home"), filepath.Join(making, "work")); err != nil {
		return programs{}, err
	}
	// Whole or not at all, and the last of several at once wins.
	if err := os.RemoveAll(home); err != nil {
		return programs{}, err
	}
	if err := os.Rename(filepath.Join(making, "home"), home); err != nil {
		return programs{}, err
	}
	return probe(ctx, user, bin)
}

// download puts release's programs into home, using work, a folder of its own. The library picks the archive for this
// machine and unpacks it; it gets it from a checking mirror, as by itself it believes the server's checksum, or goes
// without one.
func download(ctx context.Context, config Config, home, work string) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	checking := &mirror{
		ctx:       ctx,
		upstream:  cmp.Or(config.Repository, repository),
		checksums: cmp.Or(config.checksums, checksums),
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
	if err != nil {
		return err
	}
	server := &http.Server{Handler: checking, ReadHeaderTimeout: 10 * time.Second}
	go server.Serve(listener) //nolint:errcheck // ends with Close
	defer server.Close()      //nolint:errcheck // nothing to be lost

	// The library has no call to fetch alone: it fetches on its way to starting a server, where a data folder that
	// cannot be made stops it.
	obstacle := filepath.Join(work, "obstacle")
	if err := os.MkdirAll(work, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(obstacle, nil, 0o600); err != nil {
		return err
	}
	err = embedded.NewDatabase(embedded.DefaultConfig().
		Version(release).
		Port(0).
		BinaryRepositoryURL("http://" + listener.Addr().String()).
		CachePath(work).
		BinariesPath(home).
		RuntimePath(filepath.Join(work, "runtime")).
		DataPath(filepath.Join(obstacle, "data")).
		Logger(io.Discard)).Start()
	if failure := checking.failure(); failure != nil {
		return failure
	}
	if _, missing := os.Stat(filepath.Join(home, "bin", "initdb")); missing != nil {
		return fmt.Errorf("unpack Postgres: %w", err)
	}
	return nil
}

// mirror serves the archives of upstream that have the SHA-256 which is known for them.
type mirror struct {
	ctx       context.Context // the requests come from a library that takes none
	upstream  string
	checksums string

	mu  sync.Mutex
	err error // the first failure
}

func (m *mirror) failure() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

func (m *mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	content, err := m.get(r.URL.Path)
	if err != nil {
		m.mu.Lock()
		if m.err == nil {
			m.err = err
		}
		m.mu.Unlock()
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	_, _ = w.Write(content) //nolint:gosec // for the library, which says what is missing
}

func (m *mirror) get(url string) ([]byte, error) {
	archive, isChecksum := strings.CutSuffix(url, checksumSuffix)
	expected, err := checksumOf(m.checksums, path.Base(archive))
	if err != nil || isChecksum {
		return []byte(expected), err
	}
	content, err := m.ask(archive)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(content)
	if hex.EncodeToString(sum[:]) != expected {
		return nil, fmt.Errorf("%s%s has another SHA-256 than it must have: it was damaged, or tampered with", m.upstream, archive)
	}
	return content, nil
}

func (m *mirror) ask(url string) (_ []byte, err error) {
	request, err := http.NewRequestWithContext(m.ctx, http.MethodGet, m.upstream+url, http.NoBody) //nolint:gosec // the library names the archive
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request) //nolint:gosec // as above
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", request.URL, response.Status)
	}
	content, err := io.ReadAll(io.LimitReader(response.Body, maxArchive+1))
	if len(content) > maxArchive {
		return nil, fmt.Errorf("%s is larger than %d MB", request.URL, maxArchive>>20)
	}
	return content, err
}

func cacheFolder(config Config, user account) (string, error) {
	switch {
	case config.Cache != "":
		return config.Cache, nil
	case user.switched: // root's own cache is closed to others
		return "/var/cache/mathub-webhooks", nil
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "mathub-webhooks"), err
}
