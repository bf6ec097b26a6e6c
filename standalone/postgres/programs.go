// Package postgres runs a private Postgres: it finds or fetches the programs, makes a data folder, and starts
// and stops its server on a loopback port.
package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// OldestMajor is the oldest Postgres that is taken: the product's SQL is tested from 15 on, and the oldest release that
// the Postgres project still maintains is 14.
const OldestMajor = 14

// programs are the folder with initdb, pg_ctl and postgres of one version.
type programs struct {
	dir     string
	version string // such as 15.13
	major   int
}

func (p programs) path(name string) string { return filepath.Join(p.dir, name) }

// folders are where packages put Postgres's programs when not on PATH, by Debian, Red Hat, Homebrew (two prefixes and
// Linux), Postgres.app, EnterpriseDB, MacPorts and Postgres's own make install.
var folders = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/opt/homebrew/opt/postgresql*/bin",
	"/usr/local/opt/postgresql*/bin",
	"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin",
	"/Library/PostgreSQL/*/bin",
	"/opt/local/lib/postgresql*/bin",
	"/usr/local/pgsql/bin",
}

// find returns the newest programs that run for user, of the given major version unless that is 0, the search path
// first where versions are equal. ok is false when there are none; broken has those that are there and do not run.
func find(ctx context.Context, user account, major int) (found programs, ok bool, broken error) {
	var candidates []programs
	for _, dir := range candidateFolders() {
		p, err := probe(ctx, user, dir)
		switch {
		case err != nil:
			broken = errors.Join(broken, err)
		case p.major >= OldestMajor && (major == 0 || p.major == major):
			candidates = append(candidates, p)
		}
	}
	if len(candidates) == 0 {
		return programs{}, false, broken
	}
	slices.SortStableFunc(candidates, func(a, b programs) int { return cmp.Compare(b.major, a.major) })
	return candidates[0], true, broken
}

func candidateFolders() []string {
	var dirs []string
	add := func(initdb string) {
		// PATH often has links to one program or another: their own folder has them all.
		if real, err := filepath.EvalSymlinks(initdb); err == nil {
			if dir := filepath.Dir(real); !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
		}
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if filepath.IsAbs(dir) {
			add(filepath.Join(dir, "initdb"))
		}
	}
	for _, pattern := range folders {
		matches, _ := filepath.Glob(filepath.Join(pattern, "initdb")) // errs only on a malformed pattern
		for _, match := range matches {
			add(match)
		}
	}
	return dirs
}

var versionPattern = regexp.MustCompile(`\(PostgreSQL\) ((\d+)\S*)`)

// probePatience is for how long the programs of a folder may take to say their version, on a machine that is busy.
const probePatience = time.Minute

// probe runs the programs in dir as user, to see that they work and which version they are.
func probe(ctx context.Context, user account, dir string) (programs, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, probePatience, fmt.Errorf("did not say its version within %s", probePatience))
	defer cancel()
	p := programs{dir: dir}
	for _, name := range []string{"pg_ctl", "initdb", "postgres"} {
		cmd := exec.CommandContext(ctx, p.path(name), "--version") //nolint:gosec // the folders above are the point
		cmd.Dir = "/"
		user.runs(cmd)
		out, err := cmd.Output()
		if err != nil {
			return programs{}, fmt.Errorf("%s: %w", p.path(name), cmp.Or(context.Cause(ctx), err))
		}
		match := versionPattern.FindSubmatch(out)
		if match == nil {
			return programs{}, fmt.Errorf("%s: unknown version %q", p.path(name), out)
		}
		p.version = string(match[1])
		if p.major, err = strconv.Atoi(string(match[2])); err != nil {
			return programs{}, err
		}
	}
	return p, nil
}

// locate finds the programs or, where the machine has none, fetches them.
func locate(ctx context.Context, config Config, user account, major int) (programs, error) {
	found, ok, broken := find(ctx, user, major)
	if ok {
		return found, nil
	}
	p, err := fetch(ctx, config, user, major)
	if err == nil {
		return p, nil
	}
	wanted := "Postgres"
	if major != 0 {
		wanted = fmt.Sprintf("Postgres %d, whose data is in %s,", major, config.Dir)
	}
	if broken != nil {
		wanted += " does not run (" + strings.ReplaceAll(broken.Error(), "\n", "; ") + "), or"
	}
	return programs{}, fmt.Errorf("%s is not on this machine and could not be fetched (%w): install it (Debian: apt-get install postgresql; macOS: brew install postgresql) and start again", wanted, err)
}
