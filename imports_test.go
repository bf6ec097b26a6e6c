package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/mathub/webhooks"

// floors are the packages, from the top down: what is on one may import what is on a lower one, and its neighbours on the same
// floor as long as Go lets it (no cycles). A package below a folder named here is on its floor.
var floors = [][]string{
	{""},
	{"internal/app"},
	{"api", "worker", "cli"},
	{"portal", "operators"},
	{"internal/ops"},
	{"internal/subscriptions", "internal/bots"},
	{"workflows"},
	{"activities"},
	{"internal/delivery"},
	{"internal/history", "internal/allowance"},
	{"internal/pages"},
	{"internal/web"},
	{"internal/audit"},
	{"internal/settings", "internal/problem", "emit"},
	{"internal/egress", "internal/listen"},
	{"internal/telemetry", "internal/searchattr"},
	{"internal/codec"},
	{"db", "internal/pgsession", "internal/failpoint", "internal/admission", "internal/eventschema"},
	{"webhook", "internal/telemetry/instrument", "clients/go", "internal/openfiles", "internal/sleep", "docs"},
}

// leaves import nothing of ours.
var leaves = []string{"webhook", "clients/go", "internal/admission", "internal/failpoint", "internal/openfiles", "internal/sleep", "internal/telemetry/instrument", "internal/pgsession"}

// TestImportsRunOneWay holds the product's packages to the arrows that docs/architecture.md draws.
func TestImportsRunOneWay(t *testing.T) {
	seen := 0
	require.NoError(t, filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && slices.Contains([]string{"standalone", "examples", "docs", "tools", "bin", "testdata", ".git", ".data", "simulation", "dbtest", "testutil", "orderdoc", "catalogdoc", "gentypes", "temporaltest", "node_modules"}, entry.Name()) {
			return filepath.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		from := strings.TrimSuffix(strings.TrimPrefix(filepath.ToSlash(filepath.Dir(path)), "."), "/")
		floor := floorOf(from)
		require.GreaterOrEqual(t, floor, 0, "%s is on no floor: give it one", from)
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			require.NoError(t, err)
			to, ours := strings.CutPrefix(imported, module+"/")
			if !ours {
				continue
			}
			seen++
			assert.False(t, slices.Contains(leaves, from), "%s is a leaf and imports %s", path, to)
			assert.LessOrEqual(t, floor, floorOf(to), "%s imports %s, which is above it", path, to)
		}
		return nil
	}))
	require.Greater(t, seen, 100)
}

// floorOf is the floor of a package: of the longest folder that it is in. -1: none.
func floorOf(pkg string) int {
	found, length := -1, -1
	for i, floor := range floors {
		for _, folder := range floor {
			if (pkg == folder || folder != "" && strings.HasPrefix(pkg, folder+"/")) && len(folder) > length {
				found, length = i, len(folder)
			}
		}
	}
	return found
}

// TestHandlersHoldNoSQL: the handlers of API, portal and operators' pages call services, so that what comes beside it shares their rules and statements.
func TestHandlersHoldNoSQL(t *testing.T) {
	files, err := filepath.Glob("api/*.go")
	require.NoError(t, err)
	for _, folder := range []string{"portal", "operators"} {
		pages, err := filepath.Glob(folder + "/*.go")
		require.NoError(t, err)
		require.NotEmpty(t, pages)
		files = append(files, pages...)
	}
	require.NotEmpty(t, files)
	statement := regexp.MustCompile(`db\.(New|WithTx)\(|(ool|tx|conn)\.(Query|QueryRow|Exec|SendBatch)\(`)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Empty(t, statement.FindAllString(string(source), -1), file)
	}
}

// TestTheArchitectureNamesEveryPackage: a newcomer finds each in the table of docs/architecture.md.
func TestTheArchitectureNamesEveryPackage(t *testing.T) {
	page, err := os.ReadFile("docs/architecture.md")
	require.NoError(t, err)
	_, table, found := strings.Cut(string(page), "\n## The packages\n")
	require.True(t, found)
	inner, err := filepath.Glob("internal/*")
	require.NoError(t, err)
	outer, err := filepath.Glob("*")
	require.NoError(t, err)
	seen := 0
	for _, folder := range append(inner, outer...) {
		if source, err := filepath.Glob(folder + "/*.go"); err != nil || len(source) == 0 || folder == "docs" {
			continue
		}
		seen++
		assert.Contains(t, table, "`"+folder+"`", "docs/architecture.md names each package")
	}
	require.Greater(t, seen, 30)
}
