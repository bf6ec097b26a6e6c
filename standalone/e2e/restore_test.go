package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/standalone/servers"
	"github.com/mathub/webhooks/standalone/testkit"
)

// TestBackupAndRestore runs the commands of docs/operations.md: a dump under load, a restore beside the same Temporal, whose
// workflows go further than the dump, and one elsewhere, to a new Postgres and a Temporal that knows no workflow. What was
// accepted before the dump arrives, and nothing twice that the dump knows as sent.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	durable := servers.Options{Durable: true}
	env := map[string]string{"MATHUB_RETRY_SCHEDULE": "2s,2s,2s,2s"}
	old := testkit.Start(t, testkit.Options{Servers: durable, Apps: []testkit.App{{Args: []string{"api"}}, {Args: []string{"worker"}}}, Env: env})
	b := newBackup(t, old)

	before := b.emit(t, 1)
	b.recorded(t, old, 2)
	require.NoError(t, old.Temporal(t).GetWorkflow(t.Context(), emit.WorkflowID(before[0]), "").Get(t.Context(), nil))
	b.dump(t, old)
	lost := b.emit(t, 1)
	b.recorded(t, old, 4)
	b.stop(t, old)
	b.restore(t, old)
	for _, app := range old.Apps {
		app.Start(t)
	}
	require.Contains(t, b.resume(t, old), "0 were started", "%v was delivered, and the dump knows it", before)
	_, err := old.Database(t).Exec(t.Context(), "DELETE FROM deliveries WHERE event_id = $1 AND webhook_id = $2", before[0], b.slow)
	require.NoError(t, err)
	require.Contains(t, b.resume(t, old), "1 were started", "the dump is from before its end, and Temporal from after that")
	b.emitAgain(t, lost)
	b.recorded(t, old, 4) // delivered again, as nobody but Temporal knows of it
	require.Equal(t, map[string]int{before[0]: 1, lost[0]: 2}, b.times("/quick"))

	// Under load, with deliveries in progress and one that waits for a retry.
	// So slowly that it is not disabled before it is well again, however long a dump takes.
	b.receiver.Answer("/failing", b.receiver.Slow(4*time.Second, testkit.Status(http.StatusServiceUnavailable)))
	b.bot.CreateWebhook(t, b.receiver.URL("/failing"), "", post)
	var stopping atomic.Bool
	flowed := make(chan []string, 1)
	go func() {
		var ids []string
		for !stopping.Load() {
			ids = append(ids, b.emit(t, 1)...)
			time.Sleep(10 * time.Millisecond) // the rate of the emits
		}
		flowed <- ids
	}()
	b.receiver.Await(t, "/slow", 20)
	stopping.Store(true)
	accepted := append(append(before, lost...), <-flowed...)
	b.stored(t, old, accepted) // each before the dump begins, some not delivered yet
	b.dump(t, old)
	b.stop(t, old)
	require.NoError(t, old.Servers.StopTemporal(t.Context()))
	b.receiver.Answer("/failing", testkit.Status(http.StatusNoContent))

	fresh := testkit.Start(t, testkit.Options{Servers: durable, Env: env, Prepare: func(s *testkit.Stack) {
		s.SetEnv("MATHUB_KEYSET", old.Env("MATHUB_KEYSET"))
		b.restore(t, s)
	}})
	known, sent := b.known(t, fresh), b.sent()
	t.Logf("%d events; the dump knows %d deliveries of %d that were made", len(accepted), len(known), len(sent))
	require.Less(t, len(known), 3*len(accepted), "the dump was made while deliveries were in progress")
	t.Log(b.resume(t, fresh))
	for _, path := range []string{"/quick", "/slow", "/failing"} {
		require.Eventually(t, func() bool {
			times := b.times(path)
			for _, id := range accepted {
				if times[id] == 0 && (path != "/failing" || id != before[0] && id != lost[0]) {
					return false
				}
			}
			return true
		}, 3*time.Minute, 50*time.Millisecond, "%s has not got all", path)
	}
	require.Contains(t, b.resume(t, fresh), "0 were started", "all are delivered")
	for delivery := range known {
		require.Equal(t, sent[delivery], b.sent()[delivery], "%s, which the dump knows as sent, was sent again", delivery)
	}
}

type backup struct {
	folder   string
	began    time.Time
	bot      *testkit.Bot
	receiver *testkit.Receiver
	emitted  int
	slow     string // the webhook at /slow
}

func newBackup(t *testing.T, stack *testkit.Stack) *backup {
	t.Helper()
	b := &backup{folder: t.TempDir(), bot: stack.API().CreateBot(t, "kept"), receiver: testkit.NewReceiver(t)}
	b.receiver.Answer("/slow", b.receiver.Slow(500*time.Millisecond, testkit.Status(http.StatusNoContent)))
	for _, path := range []string{"/quick", "/slow"} {
		b.slow = b.bot.CreateWebhook(t, b.receiver.URL(path), "s3cret", post).ID // in the end
	}
	return b
}

func (b *backup) emit(t *testing.T, count int) (ids []string) {
	for range count {
		b.emitted++
		ids = append(ids, fmt.Sprintf("kept-%d", b.emitted))
	}
	b.emitAgain(t, ids)
	return ids
}

func (b *backup) emitAgain(t *testing.T, ids []string) {
	for _, id := range ids {
		b.bot.Emit(t, testkit.Event{ID: id, Type: post, Data: []byte(`{"postId":"p1"}`)})
	}
}

// stop ends the product's processes, as an outage would.
func (b *backup) stop(t *testing.T, stack *testkit.Stack) {
	t.Helper()
	for _, app := range stack.Apps {
		app.Kill()
	}
}

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// paste runs one of the commands of the docs' section.
func (b *backup) paste(t *testing.T, stack *testkit.Stack, number int) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(root, "docs", "operations.md"))
	require.NoError(t, err)
	section := regexp.MustCompile(`(?s)\n## Backup and restore\n(.*?)\n## `).FindSubmatch(page)
	require.NotNil(t, section)
	found := shellBlock.FindAllSubmatch(section[1], -1)
	require.Len(t, found, 3)
	command := strings.ReplaceAll(string(found[number][1]), "2025-03-20T10:00:00Z", b.began.Add(-time.Hour).UTC().Format(time.RFC3339))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, testkit.Tool(t, "bash"), "-euo", "pipefail", "-c", command)
	cmd.Dir = b.folder
	cmd.Env = append(programsOn(t),
		"MATHUB_DATABASE_URL="+stack.DatabaseURL(), "TEMPORAL_ADDRESS="+stack.TemporalAddr())
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s: %s", command, out)
	return string(out)
}

// programsOn is an environment with the product's program and the tools on PATH.
func programsOn(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Symlink(testkit.Build(t), filepath.Join(dir, "mathub-webhooks")))
	return append(os.Environ(), "PATH="+dir+":"+testkit.ToolsPath(t))
}

func (b *backup) dump(t *testing.T, stack *testkit.Stack) {
	t.Helper()
	b.began = time.Now()
	_ = os.Remove(filepath.Join(b.folder, "mathub.dump"))
	b.paste(t, stack, 0)
}

// restore puts the dump into an empty database.
func (b *backup) restore(t *testing.T, stack *testkit.Stack) {
	t.Helper()
	_, err := stack.Database(t).Exec(t.Context(), "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
	require.NoError(t, err)
	b.paste(t, stack, 1)
}

func (b *backup) resume(t *testing.T, stack *testkit.Stack) string {
	t.Helper()
	return b.paste(t, stack, 2)
}

// stored waits until these events are in the product's database.
func (b *backup) stored(t *testing.T, stack *testkit.Stack, events []string) {
	t.Helper()
	require.Eventually(t, func() bool {
		var n int
		return stack.Database(t).QueryRow(t.Context(), "SELECT count(*) FROM events WHERE id = ANY ($1)", events).Scan(&n) == nil && n == len(events)
	}, 3*time.Minute, 10*time.Millisecond)
}

// recorded waits until so many deliveries are in the history.
func (b *backup) recorded(t *testing.T, stack *testkit.Stack, count int) {
	t.Helper()
	require.Eventually(t, func() bool {
		var n int
		return stack.Database(t).QueryRow(t.Context(), "SELECT count(*) FROM deliveries WHERE success").Scan(&n) == nil && n == count
	}, 3*time.Minute, 20*time.Millisecond)
}

// known are the ids of the deliveries that the restored database knows as sent.
func (b *backup) known(t *testing.T, stack *testkit.Stack) map[string]bool {
	t.Helper()
	rows, err := stack.Database(t).Query(t.Context(), "SELECT id::text FROM deliveries WHERE success")
	require.NoError(t, err)
	defer rows.Close()
	known := map[string]bool{}
	for rows.Next() {
		var id string
		require.NoError(t, rows.Scan(&id))
		known[id] = true
	}
	require.NoError(t, rows.Err())
	require.NotEmpty(t, known)
	return known
}

// sent counts the requests of each delivery.
func (b *backup) sent() map[string]int {
	sent := map[string]int{}
	for _, requests := range b.receiver.All() {
		for _, r := range requests {
			sent[r.Header.Get("X-Mathub-Delivery")]++
		}
	}
	return sent
}

// times counts the requests of each event to a path.
func (b *backup) times(path string) map[string]int {
	times := map[string]int{}
	for _, r := range b.receiver.Requests(path) {
		times[r.EventID()]++
	}
	return times
}
