package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// maxLines bounds a file that people write, tests included: one that holds more is about more than one thing.
const maxLines = 400

// maxBytes bounds what is kept of a file in each clone, for good: the largest are the API's document and pictures.
const maxBytes = 1 << 20

// TestNoBuildIsKept: a binary, or a core, was added to a commit with the rest.
func TestNoBuildIsKept(t *testing.T) {
	listed, err := exec.CommandContext(t.Context(), "git", "ls-files", "-z").Output()
	require.NoError(t, err)
	files := strings.Split(strings.TrimSuffix(string(listed), "\x00"), "\x00")
	require.Greater(t, len(files), 1000)
	for _, file := range files {
		info, err := os.Lstat(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it is removed, and that is not committed yet
		}
		require.NoError(t, err)
		require.LessOrEqual(t, info.Size(), int64(maxBytes), "%s: git rm --cached it", file)
	}
}

// maxWidth bounds a line of SQL, in characters.
const maxWidth = 140

// TestSQLIsNarrow: a column that was added at a line's end is seen in a diff, and beside the code that reads it.
func TestSQLIsNarrow(t *testing.T) {
	queries, err := filepath.Glob("queries/*.sql")
	require.NoError(t, err)
	migrations, err := filepath.Glob("db/migrations/*.sql")
	require.NoError(t, err)
	require.NotEmpty(t, migrations)
	for _, file := range append(queries, migrations...) {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for n, line := range strings.Split(string(text), "\n") {
			require.LessOrEqual(t, utf8.RuneCountInString(line), maxWidth, "%s:%d", file, n+1)
		}
	}
}

// TestFilesAreShort looks at both modules and the examples; .golangci.yml bounds the functions.
func TestFilesAreShort(t *testing.T) {
	seen := 0
	var long []string
	require.NoError(t, filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && slices.Contains([]string{".git", ".data", "bin", "node_modules", "testdata"}, entry.Name()) {
			return filepath.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, source, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		if ast.IsGenerated(file) {
			return nil
		}
		seen++
		if lines := bytes.Count(source, []byte("\n")); lines > maxLines {
			long = append(long, fmt.Sprintf("%s: %d lines", path, lines))
		}
		return nil
	}))
	require.Greater(t, seen, 300)
	require.Empty(t, long, "split what has more than %d lines by what it is about", maxLines)
}
