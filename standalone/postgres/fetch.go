package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	embedded "github.com/fergusstrange/embedded-postgres"
)

const (
	// repository is where the archives of programs are, each with its SHA-256 beside it.
	repository = "https://repo1.maven.org/maven2"
	// newestFetched is the version that is fetched where any will do.
	newestFetched = 18
	// fetchTimeout bounds a download, maxArchive its size: archives have 10 to 40 MB.
	fetchTimeout = 10 * time.Minute
	maxArchive   = 256 << 20

	checksumSuffix = ".sha256"
)

// releases are the versions that can be fetched, by major version.
var releases = map[int]embedded.PostgresVersion{
	18: embedded.V18, 17: embedded.V17, 16: embedded.V16, 15: embedded.V15, 14: embedded.V14,
}

// fetch returns the programs in the cache, after fetching them there if need be.
func fetch(ctx context.Context, config Config, user account, major int) (programs, error) {
	if major == 0 {
		major = newestFetched
	}
	release, ok := releases[major]
	if !ok {
		return programs{}, fmt.Errorf("version %d is none that can be fetched", major)
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
	if err := download(ctx, config, release, filepath.Join(making, "home"), filepath.Join(making, "work")); err != nil {
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
// machine and unpacks it; it gets it from a checking mirror, as by itself it goes without a checksum where it finds
// none.
func download(ctx context.Context, config Config, release embedded.PostgresVersion, home, work string) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	upstream := config.Repository
	if upstream == "" {
		upstream = repository
	}
	checking := &mirror{ctx: ctx, upstream: upstream}
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

// mirror serves what upstream has, but only with a checksum beside it that is right.
type mirror struct {
	ctx      context.Context // the requests come from a library that takes none
	upstream string

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

func (m *mirror) get(path string) ([]byte, error) {
	content, err := m.ask(path)
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(path, checksumSuffix) {
		// It stands alone or before the archive's name; the library expects it alone.
		checksum, _, _ := strings.Cut(strings.TrimSpace(string(content)), " ")
		return []byte(strings.ToLower(checksum)), nil
	}
	expected, err := m.get(path + checksumSuffix)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(content)
	if hex.EncodeToString(sum[:]) != string(expected) {
		return nil, fmt.Errorf("%s%s does not have the SHA-256 that is published beside it", m.upstream, path)
	}
	return content, nil
}

func (m *mirror) ask(path string) (_ []byte, err error) {
	request, err := http.NewRequestWithContext(m.ctx, http.MethodGet, m.upstream+path, http.NoBody) //nolint:gosec // the library names the archive
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
