package faults_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

// stalledLine is what the product logs of an exchange that it makes again, as its process did not run for a part of it: the answer that
// it found too late is held against nobody, so the receiver may have seen the request.
var stalledLine = regexp.MustCompile(`by a fault of our own.* event=(\S+) webhook=(\S+) attempt=\d+ delivery=(\S+) error=.*this process did not run`)

// stalls are how often each exchange was made again so, by the delivery's id and by key.
func stalls(t *testing.T, stack *testkit.Stack) map[string]int {
	t.Helper()
	times := map[string]int{}
	for _, path := range stack.LogPaths(t) {
		log, err := os.ReadFile(path)
		require.NoError(t, err)
		for line := range strings.Lines(string(log)) {
			if found := stalledLine.FindStringSubmatch(line); found != nil {
				times[key(found[2], found[1])]++
				times[found[3]]++
			}
		}
	}
	return times
}
