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

// begin opens a step's line.
func (t *terminal) begin(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open, t.detail, t.begun = name, "", time.Now()
	fmt.Fprintf(t.out, "  %s… ", name)
}

// note adds to the open line what takes long.
func (t *terminal) note(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.out, "%s… ", text)
}

// version says of which version the open step's program is.
func (t *terminal) version(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.out, "%s ", text)
}

// ready ends the open line.
func (t *terminal) ready() {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.out, "ready (%.1fs)\n", time.Since(t.begun).Seconds())
	t.open = ""
}

// failed ends the open line of a step that did not succeed.
func (t *terminal) failed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintln(t.out, "no")
	t.open = ""
}

// line prints a line of its own, ending a step's that is open.
func (t *terminal) line(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open != "" {
		fmt.Fprintln(t.out)
		t.open = ""
	}
	fmt.Fprintf(t.out, format+"\n", args...)
}

// block prints text as it is.
func (t *terminal) block(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprint(t.out, text)
}
