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

	mathub "github.com/mathub/webhooks/clients/go"
)

// Emit emits an event, which must be accepted.
func (a *API) Emit(t testing.TB, e Event) Receipt {
	t.Helper()
	return emitted(t, []Event{e}, func(events []Event) ([]Receipt, error) {
		receipt, err := a.TryEmit(t.Context(), events[0])
		return []Receipt{receipt}, err
	})[0]
}

// EmitBatch emits up to 100 events, which must be accepted.
func (a *API) EmitBatch(t testing.TB, events []Event) []Receipt {
	t.Helper()
	return emitted(t, events, func(events []Event) ([]Receipt, error) { return a.TryEmitBatch(t.Context(), events) })
}

// emitted emits events until they are accepted: where a busy engine leaves open whether they are, the answer is 503, and asks for
// the same ids again.
func emitted(t testing.TB, events []Event, try func([]Event) ([]Receipt, error)) []Receipt {
	t.Helper()
	events = slices.Clone(events)
	for i, e := range events {
		events[i] = complete(e)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Second) { // as the answer asks for
		receipts, err := try(events)
		if err == nil {
			return receipts
		}
		var refused *mathub.Problem
		if !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
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
