package testkit

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
)

// shared is the stack of Shared and its end, which Main calls.
var shared struct {
	mu    sync.Mutex
	stack *Stack
	life  *lasting
}

// Shared is a stack for all tests of a package that ask for it. It has the settings of Options's zero value, but that retries come
// only when they are asked for, as a test on a busy machine may take longer than the default schedule. The first test starts it, and
// Main stops it. A test may do to it what users do, with bots of its own: it stops nothing, and changes nothing that
// concerns others.
func Shared(t testing.TB) *Stack {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.stack == nil {
		shared.life.end() // of one that did not start
		shared.life = new(lasting)
		shared.life.TB = t
		shared.stack = Start(shared.life, Options{Env: map[string]string{"MATHUB_RETRY_SCHEDULE": "5h,5h,5h"}})
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(shared.stack.logTails())
		}
	})
	return shared.stack
}

// lasting is a test for what outlives it: what is to be done at the test's end is done by end.
type lasting struct {
	testing.TB // the test that begins it

	mu       sync.Mutex
	cleanups []func()
	ended    bool
	failed   bool
}

// end does what was to be done at the end, and says whether it failed.
func (l *lasting) end() (failed bool) {
	if l == nil {
		return false
	}
	l.mu.Lock()
	l.ended = true
	cleanups := l.cleanups
	l.cleanups = nil
	l.mu.Unlock()
	for i := len(cleanups) - 1; i >= 0; i-- {
		cleanups[i]()
	}
	return l.failed
}

// Cleanup implements testing.TB.
func (l *lasting) Cleanup(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cleanups = append(l.cleanups, f)
}

// Context implements testing.TB.
func (l *lasting) Context() context.Context { return context.Background() }

// TempDir implements testing.TB.
func (l *lasting) TempDir() string {
	l.Helper()
	dir, err := kept()
	if err == nil {
		dir, err = os.MkdirTemp(dir, "shared-*")
	}
	if err != nil {
		l.Fatal(err)
	}
	return dir
}

// Failed implements testing.TB.
func (l *lasting) Failed() bool { return l.failed }

// Errorf implements testing.TB.
func (l *lasting) Errorf(format string, args ...any) {
	l.Helper()
	l.failed = true
	if !l.ended {
		l.TB.Errorf(format, args...)
		return
	}
	fmt.Printf(format+"\n", args...)
}

// Log implements testing.TB.
func (l *lasting) Log(args ...any) {
	l.Helper()
	if !l.ended {
		l.TB.Log(args...)
		return
	}
	fmt.Println(args...)
}
