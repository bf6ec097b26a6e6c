package faults_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/testkit"
)

// panicsAPlace is more than may be in progress to one webhook: were a place in its window, a lock or a connection kept by
// each attempt that panicked, nothing would be left.
const panicsAPlace = windowMost + 8

// TestAPanicGivesEverythingBack has attempts panic at each named place, one after the other, more often than a window has
// places. All events arrive, the worker lives, no place is held when all is done, and the worker stops in
// order.
func TestAPanicGivesEverythingBack(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{Binary: testkit.Build(t, "-tags=failpoints"), Apps: []testkit.App{{Args: []string{"api"}}}})
	for _, place := range either(
		[]string{"admitted", "before-post", "after-commit"},
		[]string{"accepted", "admitted", "before-post", "after-post", "before-commit", "after-commit", "before-completion"},
	) {
		t.Run(place, func(t *testing.T) { panicsAt(t, stack, place) })
	}
}

func panicsAt(t *testing.T, stack *testkit.Stack, place string) {
	port, err := freeport.Find()
	require.NoError(t, err)
	admin := "127.0.0.1:" + strconv.Itoa(port)
	worker := stack.NewApp(t, testkit.App{Args: []string{"worker"}, Env: map[string]string{
		"MATHUB_FAILPOINT": fmt.Sprintf("%s:%d:panic", place, panicsAPlace), "MATHUB_ADMIN_ADDR": admin,
	}})
	worker.Start(t)
	p := newPatient(t, stack, place)
	panics := func() (times int) {
		log, err := os.ReadFile(worker.LogPath())
		if err != nil {
			t.Errorf("read the worker's log: %v", err)
		}
		for line := range strings.Lines(string(log)) {
			if line == "panicked on purpose at "+place+"\n" {
				times++
			}
		}
		return times
	}

	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		until(slack*time.Minute, func() bool { return !worker.Process().Alive() || panics() >= panicsAPlace })
	}()
	began := time.Now()
	during := steadily(ctx, t, stack.API(), place+"-during", 40, p.bot.ID)
	all := until(slack*time.Minute, func() bool { return !worker.Process().Alive() || during.missing(p.well()) == nil })
	t.Logf("%d panics at %s, %d events meanwhile: %d POSTs, %d taken within %v", panics(), place, len(during.ids), p.receiver.Count(), len(p.well()), time.Since(began).Round(100*time.Millisecond))
	require.True(t, worker.Process().Alive(), "the worker has ended: %s", worker.Process().Ended())
	require.GreaterOrEqual(t, panics(), panicsAPlace, "panics at %s", place)
	require.True(t, all, "such as %v have not arrived", during.missing(p.well()))
	repeats := p.receiver.Count() - len(during.ids)
	require.LessOrEqual(t, repeats, panicsAPlace, "only what was sent and not recorded is sent again")

	after, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	probe := steadily(after, t, stack.API(), place+"-after", 10, p.bot.ID)
	p.arrives(t, probe.ids...)
	for _, gauge := range []string{"mathub_direct_in_flight", "mathub_direct_waiting", "mathub_queue_rounds"} {
		require.True(t, until(slack*time.Minute, func() bool { return measured(t, admin, gauge) == "0" }), "%s is %s", gauge, measured(t, admin, gauge))
	}
	failed, _ := attempts(t, stack, p.hook.ID)
	require.Zero(t, failed, "a panic of ours is not the receiver's failure")
	worker.Stop(t)
}

// measured is the value of a metric without labels, as a process shows it.
func measured(t *testing.T, admin, name string) string {
	t.Helper()
	value := shown(t, admin, name)
	require.NotEmpty(t, value, "%s is not measured", name)
	return value
}

// shown is measured, but empty for what has not been measured yet.
func shown(t *testing.T, admin, name string) string {
	t.Helper()
	response, err := http.Get("http://" + admin + "/metrics")
	require.NoError(t, err)
	defer response.Body.Close() //nolint:errcheck // it was read
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	found := regexp.MustCompile(`(?m)^` + name + `(?:\{[^}]*\})? (\S+)$`).FindSubmatch(body)
	if found == nil {
		return ""
	}
	return string(found[1])
}
