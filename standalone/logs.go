package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/mathub/webhooks/internal/sleep"
)

// tailLines is how much of a log is shown beside an error.
const tailLines = 12

// maxLog is how many bytes a log has when it is cut, and logInterval how often that is looked at.
const (
	maxLog      = 32 << 20
	logInterval = 10 * time.Second
)

// boundLogs cuts the logs in dir until ctx ends.
func boundLogs(ctx context.Context, dir string) {
	for ctx.Err() == nil {
		cutLogs(dir, maxLog)
		sleep.For(ctx, logInterval)
	}
}

// cutLogs moves what each log of more than most bytes has to a file beside it, in place of what was moved before. Whoever writes
// the log appends to it, and goes on at its new beginning; what is written meanwhile is lost.
func cutLogs(dir string, most int64) {
	paths, _ := filepath.Glob(filepath.Join(dir, "*.log")) // errs only on a malformed pattern
	for _, path := range paths {
		if info, err := os.Lstat(path); err != nil || info.Size() <= most {
			continue
		}
		_ = copyLog(path, path+".old") // a full disk is no reason to let the log grow
		_ = os.Truncate(path, 0)       // the next look tries again
	}
}

func copyLog(path, to string) error {
	from, err := os.Open(path) //nolint:gosec // our own log
	if err != nil {
		return err
	}
	defer from.Close()                                                                         //nolint:errcheck // only read
	file, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|syscall.O_NOFOLLOW, 0o600) //nolint:gosec // in the user's folder
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // nothing can be done about it
	_, err = io.Copy(file, from)
	return err
}

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
