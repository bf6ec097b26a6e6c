package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	embedded "github.com/fergusstrange/embedded-postgres"
)

// newestFetched is the version that is fetched where any will do.
const newestFetched = 18

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
		return programs{}, fmt.Errorf("Postgres %d cannot be fetched", major) //nolint:revive,staticcheck // a name
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
	config.say("none found on this machine, fetching Postgres %s (once, about 30 MB)", release)
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
	if err := download(release, filepath.Join(making, "home"), filepath.Join(making, "download")); err != nil {
		return programs{}, err
	}
	if err := os.RemoveAll(home); err != nil {
		return programs{}, err
	}
	if err := os.Rename(filepath.Join(making, "home"), home); err != nil {
		return programs{}, err
	}
	return probe(ctx, user, bin)
}

// download puts release's programs into home. The library has no call for that alone: it fetches, checks and unpacks
// them on its way to starting a server, and is stopped short there by a data folder that cannot be made.
func download(release embedded.PostgresVersion, home, archive string) error {
	obstacle := filepath.Join(archive, "obstacle")
	if err := os.MkdirAll(archive, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(obstacle, nil, 0o600); err != nil {
		return err
	}
	err := embedded.NewDatabase(embedded.DefaultConfig().
		Version(release).
		Port(0).
		CachePath(archive).
		BinariesPath(home).
		RuntimePath(filepath.Join(archive, "runtime")).
		DataPath(filepath.Join(obstacle, "data")).
		Logger(io.Discard)).Start()
	if _, missing := os.Stat(filepath.Join(home, "bin", "initdb")); missing != nil {
		return errors.Join(errors.New("fetch Postgres"), err)
	}
	return nil
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
