package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// tailLines is how much of a log is shown beside an error.
const tailLines = 12

// logTails are the last lines of each log in dir.
func logTails(dir string) string {
	paths, _ := filepath.Glob(filepath.Join(dir, "*.log")) // errs only on a malformed pattern
	var b strings.Builder
	for _, path := range paths {
		if tail := logTail(path); tail != "" {
			fmt.Fprintf(&b, "--- the end of %s\n%s\n", path, tail)
		}
	}
	return b.String()
}

func logTail(path string) string {
	raw, err := os.ReadFile(path) //nolint:gosec // our own log
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimRight(string(raw), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}
