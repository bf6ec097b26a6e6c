package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEachSleepHasItsReason: tests wait for signals and conditions. One that lets time pass says why, in a comment on the
// line; the clock of testing/synctest passes none.
func TestEachSleepHasItsReason(t *testing.T) {
	seen := 0
	var without []string
	require.NoError(t, filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && slices.Contains([]string{".git", ".data", "bin", "node_modules"}, entry.Name()) {
			return filepath.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		n, lines, err := sleeps(path, nil)
		seen += n
		without = append(without, lines...)
		return err
	}))
	require.Positive(t, seen)
	require.Empty(t, without, "wait for a signal instead, or say on the line why time has to pass")
}

func TestASleepWithoutAReasonIsFound(t *testing.T) {
	n, without, err := sleeps("x_test.go", `package x
import ("testing/synctest"; "time")
func f() {
	time.Sleep(1)
	time.Sleep(2) // the rate
	select { case <-time.After(3): }
	synctest.Test(nil, func() { time.Sleep(4) })
}`)
	require.NoError(t, err)
	require.Equal(t, 3, n)
	require.Equal(t, []string{"x_test.go:4", "x_test.go:6"}, without)
}

// sleeps counts the calls of time.Sleep and time.After in a file, outside of testing/synctest's, and lists the lines of those
// without a comment.
func sleeps(path string, source any) (seen int, without []string, err error) {
	if text, ok := source.(string); ok {
		source = []byte(text)
	}
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, source, parser.ParseComments)
	if err != nil {
		return 0, nil, err
	}
	line := func(n ast.Node) int { return files.Position(n.Pos()).Line }
	explained := map[int]bool{}
	for _, comment := range file.Comments {
		explained[line(comment)] = true
	}
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		switch types.ExprString(call.Fun) {
		case "synctest.Test", "inBubble", "withProgress": // the latter call the former
			return false
		case "time.Sleep", "time.After":
			seen++
			if !explained[line(call)] {
				without = append(without, fmt.Sprintf("%s:%d", path, line(call)))
			}
		}
		return true
	})
	return seen, without, nil
}
