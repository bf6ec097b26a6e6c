package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// terminal prints progress: one line a step, begun when the step begins.
type terminal struct {
	mu     sync.Mutex
	out    io.Writer
	open   string // the name of the step whose line is open
	detail string
	begun  time.Time
}

func newTerminal(out io.Writer) *terminal { return &terminal{out: out} }

// printf prints; for people: nothing hangs on it.
func (t *terminal) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(t.out, format, args...)
}

// begin opens a step's line.
func (t *terminal) begin(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open, t.detail, t.begun = name, "", time.Now()
	t.printf("  %s… ", name)
}

// note adds to the open line what takes long.
func (t *terminal) note(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.printf("%s… ", text)
}

// version says of which version the open step's program is.
func (t *terminal) version(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.printf("%s ", text)
}

// ready ends the open line.
func (t *terminal) ready() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.printf("ready (%.1fs)\n", time.Since(t.begun).Seconds())
	t.open = ""
}

// failed ends the open line of a step that did not succeed.
func (t *terminal) failed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.printf("no\n")
	t.open = ""
}

// line prints a line of its own, ending a step's that is open.
func (t *terminal) line(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open != "" {
		t.printf("\n")
		t.open = ""
	}
	t.printf(format+"\n", args...)
}

// block prints text as it is.
func (t *terminal) block(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.printf("%s", text)
}
