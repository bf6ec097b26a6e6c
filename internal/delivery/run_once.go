package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"

	"github.com/google/uuid"
)

// errClosed: the worker is stopping, so the delivery is left to another.
var errClosed = errors.New("the worker is stopping")

// runOnce makes each attempt once at a time: an activity that is repeated while its first run is still at it must not POST
// twice, and joins it.
type runOnce struct {
	log      *slog.Logger
	mu       sync.Mutex
	inFlight map[uuid.UUID]*attemptRun // guarded by mu, as closed
	closed   bool
	running  sync.WaitGroup
}

type attemptRun struct {
	done   chan struct{}
	result Result
	err    error
}

// do runs f, or waits for the run of the same delivery that is in flight. f goes on when ctx ends, as its outcome must be
// recorded.
func (o *runOnce) do(ctx context.Context, deliveryID uuid.UUID, f func() (Result, error)) (Result, error) {
	run, isNew, err := o.join(deliveryID)
	if err != nil {
		return Result{}, err
	}
	if isNew {
		go o.run(deliveryID, run, f)
	}
	select {
	case <-run.done:
		return run.result, run.err
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
}

func (o *runOnce) join(deliveryID uuid.UUID) (run *attemptRun, isNew bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, false, errClosed
	}
	if run := o.inFlight[deliveryID]; run != nil {
		return run, false, nil
	}
	run = &attemptRun{done: make(chan struct{})}
	o.inFlight[deliveryID] = run
	o.running.Add(1)
	return run, true, nil
}

func (o *runOnce) run(deliveryID uuid.UUID, run *attemptRun, f func() (Result, error)) {
	defer o.running.Done()
	defer close(run.done)
	defer o.leave(deliveryID)
	defer func() {
		if p := recover(); p != nil {
			o.log.Error("delivery panicked", "delivery", deliveryID, "panic", p, "stack", string(debug.Stack()))
			run.err = fmt.Errorf("delivery %s panicked", deliveryID)
		}
	}()
	run.result, run.err = f()
}

func (o *runOnce) leave(deliveryID uuid.UUID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.inFlight, deliveryID)
}

// close takes no more and returns a channel that is closed when all in flight have ended.
func (o *runOnce) close() <-chan struct{} {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		o.running.Wait()
	}()
	return ended
}
