package testkit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var quiet = slog.New(slog.DiscardHandler)

// kept is this process's folder for what its tests share; Main removes it.
var kept = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "mathub-testkit-*") })

// builds are the product's programs that this test's process made.
var builds = programs{of: map[string]string{}}

type programs struct {
	mu sync.Mutex
	of map[string]string // by the folder and the flags of the build
}

// Build builds the product with the given flags of go build, such as "-tags=failpoints", once, and returns the
// program, without what debuggers read. TESTKIT_BINARY names one to be taken as it is where no flags are given.
func Build(t testing.TB, flags ...string) string {
	t.Helper()
	if given := os.Getenv("TESTKIT_BINARY"); given != "" && len(flags) == 0 {
		return given
	}
	return builds.build(t, Root(t), flags...)
}

// Standalone builds the standalone program, once, which becomes the Temporal server. TESTKIT_STANDALONE names one to be taken as it
// is.
func Standalone(t testing.TB) string {
	t.Helper()
	if given := os.Getenv("TESTKIT_STANDALONE"); given != "" {
		return given
	}
	return builds.build(t, filepath.Join(Root(t), "standalone"))
}

func (p *programs) build(t testing.TB, folder string, flags ...string) string {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	key := strings.Join(append([]string{folder}, flags...), " ")
	if path, ok := p.of[key]; ok {
		return path
	}
	dir, err := kept()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, fmt.Sprintf("%s-%d", filepath.Base(folder), len(p.of)))
	cmd := exec.CommandContext(t.Context(), "go", append(append([]string{"build", "-ldflags=-w", "-o", path}, flags...), ".")...) //nolint:gosec // a test's flags
	cmd.Dir = folder
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", folder, err, out)
	}
	p.of[key] = path
	return path
}

// Changes make another source of each of the product's files, by their paths. A file that is not there is empty.
type Changes map[string]func(source string) string

// BuildChanged builds the product with changes, without touching the source tree.
func BuildChanged(t testing.TB, changes ...Changes) string {
	t.Helper()
	return Build(t, "-overlay="+Overlay(t, changes...))
}

// Overlay writes what go's flag -overlay takes, for BuildChanged's changes.
func Overlay(t testing.TB, changes ...Changes) (path string) {
	t.Helper()
	overlay := map[string]map[string]string{"Replace": {}}
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	all := Changes{}
	for _, some := range changes {
		maps.Copy(all, some)
	}
	for path, change := range all {
		file := filepath.Join(Root(t), path)
		source, err := os.ReadFile(file) //nolint:gosec // a test's file
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		overlay["Replace"][file] = write(filepath.Base(path), []byte(change(string(source))))
	}
	encoded, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	return write("overlay.json", encoded)
}

// Insert is a change for BuildChanged: more code before a piece of code that is there once.
func Insert(t testing.TB, more, before string) func(source string) string {
	return Replace(t, before, more+before)
}

// Replace is a change for BuildChanged: other code instead of a piece of code that is there once.
func Replace(t testing.TB, before, after string) func(source string) string {
	return func(source string) string {
		t.Helper()
		if strings.Count(source, before) != 1 {
			t.Fatalf("the code is not what this test changes any more: %q", before)
		}
		return strings.Replace(source, before, after, 1)
	}
}

var findRoot = sync.OnceValues(func() (string, error) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/mathub/webhooks").Output()
	return strings.TrimSpace(string(dir)), err
})

// Root is the repository's folder.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := findRoot()
	if err != nil {
		t.Fatalf("find the product's module: %v", err)
	}
	return dir
}
