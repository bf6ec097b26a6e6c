package outbox_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/webhook"
)

// TestARowThatOnlyTheServiceRefusesHoldsUpNoneOfItsBatch, whether or not the service says which it is, and in the order of
// insertion.
func TestARowThatOnlyTheServiceRefusesHoldsUpNoneOfItsBatch(t *testing.T) {
	t.Parallel()
	every := func(n int) (size []int) {
		for range n {
			size = append(size, 1)
		}
		return size
	}
	named := func(place int) string { return fmt.Sprintf("events[%d].data", place) }
	for name, c := range map[string]struct {
		field  func(place int) string
		poison []string
		calls  []int
	}{
		"first":               {named, []string{"e00000"}, []int{100, 1, 99}},
		"in the middle":       {named, []string{"e00040"}, []int{100, 40, 1, 59}},
		"last":                {named, []string{"e00099"}, []int{100, 99, 1}},
		"neighbours":          {named, []string{"e00010", "e00011", "e00012"}, []int{100, 10, 1, 1, 1, 87}},
		"far apart":           {named, []string{"e00010", "e00090"}, []int{100, 10, 1, 79, 1, 9}},
		"not named":           {func(int) string { return "data" }, []string{"e00040"}, append([]int{100}, every(100)...)},
		"named out of bounds": {func(int) string { return "events[100].data" }, []string{"e00040"}, append([]int{100}, every(100)...)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t)
			want := slices.DeleteFunc(b.insert(t, 0, 100), func(id string) bool { return slices.Contains(c.poison, id) })
			relay := b.relay()
			relay.Emit = func(ctx context.Context, events []webhook.Event) ([]emit.Receipt, error) {
				refused := &emit.RefusedError{Status: http.StatusUnprocessableEntity, Detail: "The request is invalid; see errors."}
				for i, e := range events {
					if slices.Contains(c.poison, e.ID) {
						refused.Fields = append(refused.Fields, webhook.FieldError{Field: c.field(i), Message: "breaks a new rule"})
					}
				}
				if len(refused.Fields) > 0 {
					b.refuse(events)
					return nil, refused
				}
				return b.emit(ctx, events)
			}
			accepted, err := drained(relay.Drain(t.Context()))
			require.NoError(t, err)
			require.Equal(t, len(want), accepted)
			require.Equal(t, want, b.ids())
			require.Equal(t, c.calls, b.sizes())
			waiting, aside := b.rows(t)
			require.Equal(t, []int{0, len(c.poison)}, []int{waiting, aside})
			var n int
			require.NoError(t, b.QueryRow(t.Context(), "SELECT count(*) FROM mathub_outbox WHERE id = ANY ($1) AND error LIKE '%breaks a new rule%'", c.poison).Scan(&n))
			require.Equal(t, len(c.poison), n)
		})
	}
}

// refuse notes a call that was refused.
func (b *backend) refuse(events []webhook.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, make([]string, len(events)))
}

// TestMoreCulpritsThanAnErrorNames: the service names 20 faults at most.
func TestMoreCulpritsThanAnErrorNames(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	b.insert(t, 0, 100)
	relay := b.relay()
	relay.Emit = func(ctx context.Context, events []webhook.Event) ([]emit.Receipt, error) {
		fault := &webhook.InvalidError{}
		for i, e := range events {
			if e.ID < "e00050" && len(fault.Fields) < 20 {
				fault.Fields = append(fault.Fields, webhook.FieldError{Field: fmt.Sprintf("events[%d].data", i), Message: "breaks a new rule"})
			}
		}
		if len(fault.Fields) > 0 {
			b.refuse(events)
			return nil, fault
		}
		return b.emit(ctx, events)
	}
	accepted, err := drained(relay.Drain(t.Context()))
	require.NoError(t, err)
	require.Equal(t, 50, accepted)
	waiting, aside := b.rows(t)
	require.Equal(t, []int{0, 50}, []int{waiting, aside})
	require.Len(t, b.sizes(), 3+50+1, "three refused, each culprit by itself, and the rest at once")
}

// TestRowsOfOneIDAreNotInOneCall: the second is a duplicate, and no fault of its batch.
func TestRowsOfOneIDAreNotInOneCall(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	for _, id := range []string{"a", "b", "a", "c", "c", "d"} {
		_, err := b.Exec(t.Context(), "INSERT INTO mathub_outbox (id, event, data) VALUES ($1, 'post.created', '{}')", id)
		require.NoError(t, err)
	}
	accepted, err := drained(b.relay().Drain(t.Context()))
	require.NoError(t, err)
	require.Equal(t, 6, accepted)
	require.Equal(t, [][]string{{"a", "b"}, {"a", "c"}, {"c", "d"}}, b.calls)
	waiting, aside := b.rows(t)
	require.Zero(t, waiting+aside)
}

// TestABatchIsNoLargerThanTheServiceTakes, to the byte and with the longest ids and audiences.
func TestABatchIsNoLargerThanTheServiceTakes(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	b.insertOf(t, 0, 30, 200_000)
	bots := make([]string, webhook.MaxBotIDs)
	for i := range bots {
		bots[i] = fmt.Sprintf("%0128d", i)
	}
	for i := range 30 {
		_, err := b.Exec(t.Context(), "INSERT INTO mathub_outbox (id, event, data, bot_ids) VALUES ($1, 'mention', '{}', $2)", fmt.Sprintf("%0128d", i), bots)
		require.NoError(t, err)
	}
	relay := b.relay()
	relay.Emit = func(ctx context.Context, events []webhook.Event) ([]emit.Receipt, error) {
		_, err := webhook.ParseBatch(slices.Concat([]byte(`{"events":`), webhook.BatchJSON(events), []byte("}")))
		require.NoError(t, err)
		return b.emit(ctx, events)
	}
	accepted, err := drained(relay.Drain(t.Context()))
	require.NoError(t, err)
	require.Equal(t, 60, accepted)
	require.Equal(t, []int{5, 5, 5, 5, 5, 5, 7, 7, 7, 7, 2}, b.sizes())
}

// TestTroubleAmidATransactionRepeatsOneCallAtMost: the service may have accepted what it did not acknowledge; that is
// emitted again, and nothing before it.
func TestTroubleAmidATransactionRepeatsOneCallAtMost(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	want := b.insertOf(t, 0, 20, 250_000) // four to a call
	relay := b.relay()
	lost := false
	relay.Emit = func(ctx context.Context, events []webhook.Event) ([]emit.Receipt, error) {
		receipts, err := b.emit(ctx, events)
		if events[0].ID == want[8] && !lost {
			lost = true
			return nil, context.DeadlineExceeded // the answer is lost
		}
		return receipts, err
	}
	accepted, err := drained(relay.Drain(t.Context()))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "row ")
	require.Equal(t, 8, accepted)
	waiting, _ := b.rows(t)
	require.Equal(t, 12, waiting)
	accepted, err = drained(relay.Drain(t.Context()))
	require.NoError(t, err)
	require.Equal(t, 12, accepted)
	require.Equal(t, slices.Concat(want[:12], want[8:]), b.ids())
}

// TestSeveralCallsAtOnce, each with a batch of its own: one that is in trouble takes nothing from the others.
func TestSeveralCallsAtOnce(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	want := b.insert(t, 0, 400)
	relay := b.relay()
	relay.AtOnce = 4
	here := make(chan struct{})
	arrived := make(chan struct{}, 4)
	relay.Emit = func(ctx context.Context, events []webhook.Event) ([]emit.Receipt, error) {
		arrived <- struct{}{}
		<-here
		if events[0].ID == want[100] {
			return nil, context.DeadlineExceeded
		}
		return b.emit(ctx, events)
	}
	ended := make(chan error, 1)
	var accepted int
	go func() {
		var err error
		accepted, err = drained(relay.Drain(t.Context()))
		ended <- err
	}()
	for range 4 {
		select {
		case <-arrived:
		case <-time.After(20 * time.Second): // the most that it may take
			t.Fatal("four calls are not under way at once")
		}
	}
	close(here)
	require.ErrorIs(t, <-ended, context.DeadlineExceeded)
	require.Equal(t, 300, accepted)
	require.ElementsMatch(t, slices.Concat(want[:100], want[200:]), b.ids())
	waiting, _ := b.rows(t)
	require.Equal(t, 100, waiting)
	require.NotContains(t, strings.Join(b.ids(), " "), want[100])
}
