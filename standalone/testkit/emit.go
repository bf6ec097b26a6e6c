package testkit

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	mathub "github.com/mathub/webhooks/clients/go"
)

// Emit emits an event, which must be accepted.
func (a *API) Emit(t testing.TB, e Event) Receipt {
	t.Helper()
	receipts, err := a.EmitPatiently(t.Context(), e)
	require.NoError(t, err)
	return receipts[0]
}

// EmitBatch emits up to 100 events, which must be accepted.
func (a *API) EmitBatch(t testing.TB, events []Event) []Receipt {
	t.Helper()
	receipts, err := a.EmitPatiently(t.Context(), events...)
	require.NoError(t, err)
	return receipts
}

// EmitPatiently emits an event, or up to 100 as a batch, until they are accepted: where a busy engine leaves open whether they are, the
// answer is 503, and asks for the same ids again. The error is that of another answer, of none, or of the last after three minutes. It
// may be called by many goroutines.
func (a *API) EmitPatiently(ctx context.Context, events ...Event) ([]Receipt, error) {
	events = slices.Clone(events)
	for i, e := range events {
		events[i] = complete(e)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Second) { // as the answer asks for
		receipts, err := a.tryEmit(ctx, events)
		var refused *mathub.Problem
		if err == nil || !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable || time.Now().After(deadline) {
			return receipts, err
		}
	}
}

func (a *API) tryEmit(ctx context.Context, events []Event) ([]Receipt, error) {
	if len(events) > 1 {
		return a.TryEmitBatch(ctx, events)
	}
	receipt, err := a.TryEmit(ctx, events[0])
	return []Receipt{receipt}, err
}

// accepted makes a call that accepts events. One that is turned away for want of room, so that nothing of it was accepted,
// is made again after the pause that the answer asks for, as the clients do.
func accepted[T any](ctx context.Context, a *API, emit func(*mathub.Service) (*mathub.Response[T], error)) (receipts T, err error) {
	service, err := a.service()
	if err != nil {
		return receipts, err
	}
	for {
		answer, err := emit(service)
		if err == nil {
			return answer.Value, nil
		}
		var refused *mathub.Problem
		if !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable || !strings.Contains(refused.Detail, "Nothing was accepted") {
			return receipts, err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return receipts, err
		}
	}
}

// TryEmit emits an event; the error says why it was not accepted, or that no answer came. It may be called by many
// goroutines.
func (a *API) TryEmit(ctx context.Context, e Event) (Receipt, error) {
	e = complete(e)
	return accepted(ctx, a, func(s *mathub.Service) (*mathub.Response[Receipt], error) { return s.EmitEvent(ctx, e) })
}

// TryEmitBatch emits up to 100 events, all or none, as TryEmit does one.
func (a *API) TryEmitBatch(ctx context.Context, events []Event) ([]Receipt, error) {
	batch := mathub.EventBatch{Events: make([]Event, len(events))}
	for i, e := range events {
		batch.Events[i] = complete(e)
	}
	return accepted(ctx, a, func(s *mathub.Service) (*mathub.Response[[]Receipt], error) { return s.EmitEvents(ctx, batch) })
}

// complete is an event whose data defaults to an empty object, and its id to one that was never used.
func complete(e Event) Event {
	if e.Data == nil {
		e.Data = json.RawMessage("{}")
	}
	if e.ID == "" {
		e.ID = uuid.NewString()
	}
	return e
}
