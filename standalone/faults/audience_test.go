package faults_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/mathub/webhooks/standalone/testkit"
	"github.com/mathub/webhooks/webhook"
)

// Temporal's limits on a workflow and its payloads:
// https://docs.temporal.io/cloud/limits and common/dynamicconfig/constants.go of its server.
const (
	maxHistoryEvents = 51_200
	maxHistoryBytes  = 50 << 20
)

// TestManyWebhooksHearOfOneEvent delivers one event to 10,000 webhooks, in the short form 3,000, from a process that may hold
// 1,024 files open, and watches what it costs.
func TestManyWebhooksHearOfOneEvent(t *testing.T) {
	share(t)
	audience := either(3000, 10_000)
	stack := testkit.Start(t, testkit.Options{Binary: limited(t, 1024)})
	var mu sync.Mutex
	got := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		got[r.URL.Path+" "+r.Header.Get("webhook-id")]++
		mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(server.Close)
	db := stack.Database(t)
	for bot := range audience / webhook.MaxWebhooksPerBot {
		stack.API().CreateBot(t, "large").CreateWebhooks(t, webhook.MaxWebhooksPerBot, func(i int) string {
			return fmt.Sprintf("%s/%d", server.URL, bot*webhook.MaxWebhooksPerBot+i)
		}, "post.created")
	}

	before := peakMemory(t, stack.Apps[0])
	sockets := 0
	watched := make(chan struct{})
	watching := make(chan struct{})
	go func() {
		defer close(watched)
		for {
			select {
			case <-watching:
				return
			case <-time.After(20 * time.Millisecond): // before it looks again
				sockets = max(sockets, openFiles(stack.Apps[0]))
			}
		}
	}()
	began := time.Now()
	receipt := stack.API().Emit(t, testkit.Event{Type: post})
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(got) == audience
	}, time.Minute, 10*time.Millisecond)
	arrived := time.Since(began)
	finished(t, stack, time.Minute)
	close(watching)
	<-watched
	for i := range audience {
		require.Equal(t, 1, got[fmt.Sprintf("/%d %s", i, receipt.ID)])
	}
	var rows, pairs int
	require.NoError(t, db.QueryRow(t.Context(), "SELECT count(*), count(DISTINCT webhook_id) FROM deliveries WHERE success AND event_id = $1", receipt.ID).Scan(&rows, &pairs))
	require.Equal(t, []int{audience, audience}, []int{rows, pairs})

	var longest, largest int64
	listed, err := stack.Temporal(t).ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{PageSize: 1000})
	require.NoError(t, err)
	require.Greater(t, len(listed.Executions), audience/500)
	for _, e := range listed.Executions {
		longest, largest = max(longest, e.HistoryLength), max(largest, e.HistorySizeBytes)
	}
	grown := peakMemory(t, stack.Apps[0]) - before
	t.Logf("one event to %d webhooks: %v, the longest history %d events and %d bytes, memory grown by %d MiB, at most %d files open",
		audience, arrived.Round(time.Millisecond), longest, largest, grown>>20, sockets)
	require.Less(t, longest, int64(maxHistoryEvents/4))
	require.Less(t, largest, int64(maxHistoryBytes/4))
	require.Less(t, grown, int64(512<<20))
	require.Less(t, sockets, 1024)
}

// limited is the product in a shell that allows it so many open files.
func limited(t *testing.T, files int) string {
	t.Helper()
	script := filepath.Join(t.TempDir(), "limited")
	require.NoError(t, os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\nulimit -n %d\nexec '%s' \"$@\"\n", files, testkit.Build(t)), 0o700))
	return script
}

// peakMemory is the most that a process has held resident, in bytes.
func peakMemory(t *testing.T, app *testkit.App) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", app.Process().PID()))
	require.NoError(t, err)
	found := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	require.NotNil(t, found)
	kib, err := strconv.ParseInt(string(found[1]), 10, 64)
	require.NoError(t, err)
	return kib << 10
}

func openFiles(app *testkit.App) int {
	files, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", app.Process().PID())) // 0 once it has ended
	return len(files)
}
