// Package faults_test breaks real processes under load and then settles accounts: every event that was accepted is at
// every receiver, recorded once, and counted right.
//
// The short forms run with every test. MATHUB_SOAK=1, as `make soak` sets it, makes them long.
package faults_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/mathub/webhooks/standalone/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// soak: the long forms are asked for.
var soak = os.Getenv("MATHUB_SOAK") != ""

var (
	kills    = flag.Int("kills", 1000, "how many times the crash tests kill a process in their long forms, all together; 120 events come with each")
	restarts = flag.Int("restarts", 50, "how often Postgres and Temporal are each restarted in the long form of TestServersAreRestarted")
)

// shareOf is a test's share of the kills, so many of a thousand.
func shareOf(thousand int) int { return *kills * thousand / 1000 }

// rounds runs f so many times in the long form, at least once, and once in the short form. Each has its own accounts, so that what
// a failure is about is found among few events.
func rounds(t *testing.T, most int, f func(t *testing.T, round int)) {
	if !soak {
		f(t, 1)
		return
	}
	for i := range max(1, most) {
		if !t.Run(fmt.Sprintf("round %d", i+1), func(t *testing.T) { f(t, i+1) }) {
			return
		}
	}
}

// place is a named place in the product's code, where the n-th time that it comes there kills it.
type place struct {
	name string
	hits int
}

// String is the place as MATHUB_FAILPOINT takes it.
func (p place) String() string { return fmt.Sprintf("%s:%d", p.name, p.hits) }

// share lets the test run beside others. In the long form, what measures has the machine for itself.
func share(t *testing.T) {
	t.Helper()
	if !soak {
		t.Parallel()
	}
}

// either is the first in the short form and the second in the long one.
func either[T any](short, long T) T {
	if soak {
		return long
	}
	return short
}
