// Package faults_test breaks real processes under load and then settles accounts: every event that was accepted is at
// every receiver, recorded once, and counted right.
//
// The short forms run with every test. MATHUB_SOAK=1, as `make soak` sets it, makes them long.
package faults_test

import (
	"os"
	"testing"

	"github.com/mathub/webhooks/standalone/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// soak: the long forms are asked for.
var soak = os.Getenv("MATHUB_SOAK") != ""

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
