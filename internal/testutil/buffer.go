// Package testutil holds what tests of several packages share.
package testutil

import (
	"bytes"
	"sync"
)

// Buffer keeps what is written to it, for a test to read while more is written, as to a log. The zero value is empty.
type Buffer struct {
	mu  sync.Mutex
	all bytes.Buffer // guarded by mu
}

// Write never fails.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

// String returns what was written.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

// Take returns what was written since the last call.
func (b *Buffer) Take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.all.Reset()
	return b.all.String()
}
