package worker_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/workflows"
)

func TestARecoveryDeliversWhatWasMissed(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	id := s.subscribe(t, "/")
	set := func(active bool) {
		_, err := s.pool.Exec(t.Context(), "UPDATE webhooks SET is_active = $2 WHERE id = $1", id, active)
		require.NoError(t, err)
	}
	set(false)
	span := history.Span{WebhookID: id, Since: time.Now().Add(-time.Minute)}
	for i := range 12 {
		s.emit(t, fmt.Sprintf("e%d", i))
		result[workflows.Summary](t, s.client, fmt.Sprintf("event-e%d", i))
	}
	set(true)
	span.Until = time.Now()
	queue := history.Queue{Pool: s.pool}
	_, err := queue.StartRecovery(t.Context(), span)
	require.NoError(t, err)
	_, err = queue.StartRecovery(t.Context(), span)
	require.ErrorAs(t, err, new(history.RecoveryRunningError))
	require.NoError(t, workflows.StartRecover(t.Context(), s.client, s.attributes, s.target(id)))
	done := result[history.RecoveryStep](t, s.client, "recover-"+id.String())
	require.Equal(t, history.RecoveryStep{Ended: true, State: history.RecoveryCompleted, Found: 12, Delivered: 12}, done)
	for i := range 12 {
		require.Equal(t, 1, s.count("/", fmt.Sprintf("e%d", i)))
	}
	s.keep(t, "recover-"+id.String(), "recover")
}

// TestARecoveryIsEndedByAnOperator who cancels its workflow in the Web UI, or goes on after one terminated it.
func TestARecoveryIsEndedByAnOperator(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	id := s.subscribe(t, "/")
	_, err := s.pool.Exec(t.Context(), "UPDATE webhooks SET is_active = false WHERE id = $1", id)
	require.NoError(t, err)
	for i := range 12 {
		s.emit(t, fmt.Sprintf("e%d", i))
		result[workflows.Summary](t, s.client, fmt.Sprintf("event-e%d", i))
	}
	_, err = s.pool.Exec(t.Context(), "UPDATE webhooks SET is_active = true WHERE id = $1", id)
	require.NoError(t, err)
	release := make(chan struct{})
	var once sync.Once
	s.answer(func(http.ResponseWriter, *http.Request) { <-release })
	t.Cleanup(func() { once.Do(func() { close(release) }) })
	queue := history.Queue{Pool: s.pool}
	_, err = queue.StartRecovery(t.Context(), history.Span{WebhookID: id, Since: time.Now().Add(-time.Minute), Until: time.Now()})
	require.NoError(t, err)
	require.NoError(t, workflows.StartRecover(t.Context(), s.client, s.attributes, s.target(id)))
	require.Eventually(t, func() bool { return s.count("/", "e0") == 1 }, 3*time.Minute, 10*time.Millisecond)
	require.NoError(t, s.client.CancelWorkflow(t.Context(), "recover-"+id.String(), ""))
	state := func() (state string) {
		require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT state FROM recoveries").Scan(&state))
		return state
	}
	require.Eventually(t, func() bool { return state() == history.RecoveryCancelled }, 3*time.Minute, 20*time.Millisecond)
	once.Do(func() { close(release) })
	// On a busy machine, what was in flight may have timed out before it was answered.
	require.Eventually(t, func() bool { return strings.HasSuffix(s.state(t, id), ", 0 rows") }, 3*time.Minute, 20*time.Millisecond)
	require.Zero(t, s.count("/", "e11"), "what was not in flight is not sent")
}
