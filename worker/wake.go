package worker

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/client"
	"golang.org/x/time/rate"

	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/failpoint"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/searchattr"
	"github.com/mathub/webhooks/internal/sleep"
	"github.com/mathub/webhooks/workflows"
)

const (
	// wakesPerSecond and wakesAtOnce bound how many queues a process wakes: a bot whose thousand webhooks begin to hang must
	// not take the engine from everybody else.
	wakesPerSecond, wakesAtOnce = 50, 20
	// wakers is how many are woken side by side.
	wakers = 4
	// wakeTimeout bounds one call to Temporal, and wakeAgain is the pause after one that failed.
	wakeTimeout, wakeAgain = 10 * time.Second, time.Second
	// sweepInterval is how often this process looks whether it is to make the sweep that all processes share.
	sweepInterval = 5 * time.Second
	// mostFreed is of how many overdue queues a sweep asks what runs under their ids.
	mostFreed = 100
)

// waker wakes the queues of webhooks: each once, however often it is asked to meanwhile, and those of each bot in turn
// with those of others. What a crash keeps it from is found by the sweep.
type waker struct {
	client     client.Client
	attributes *searchattr.Attributes
	log        *slog.Logger
	limit      *rate.Limiter

	mu      sync.Mutex
	waiting map[uuid.UUID]bool           // guarded by mu, as what follows
	byBot   map[string][]delivery.Target // those who wait, by bot
	bots    []string                     // those of byBot, in turn
	work    chan struct{}
}

// newWaker returns a waker, which wakes nobody before Run.
func newWaker(c client.Client, a *searchattr.Attributes, log *slog.Logger) *waker {
	return &waker{
		client: c, attributes: a, log: log, limit: rate.NewLimiter(wakesPerSecond, wakesAtOnce),
		waiting: map[uuid.UUID]bool{}, byBot: map[string][]delivery.Target{}, work: make(chan struct{}, wakers),
	}
}

// Wake has a webhook's queue woken soon. It does not block.
func (w *waker) Wake(t delivery.Target) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting[t.WebhookID] {
		return
	}
	w.waiting[t.WebhookID] = true
	if len(w.byBot[t.BotID]) == 0 {
		w.bots = append(w.bots, t.BotID)
	}
	w.byBot[t.BotID] = append(w.byBot[t.BotID], t)
	w.nudge()
}

func (w *waker) nudge() {
	select {
	case w.work <- struct{}{}:
	default: // every waker has been called already
	}
}

// next takes the next webhook: what is asked of it from now on needs another call.
func (w *waker) next() (t delivery.Target, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.bots) == 0 {
		return t, false
	}
	bot := w.bots[0]
	w.bots = w.bots[1:]
	t = w.byBot[bot][0]
	if rest := w.byBot[bot][1:]; len(rest) > 0 {
		w.byBot[bot] = rest
		w.bots = append(w.bots, bot)
	} else {
		delete(w.byBot, bot)
	}
	if len(w.bots) > 0 {
		w.nudge()
	}
	delete(w.waiting, t.WebhookID)
	return t, true
}

// Run wakes, and sweeps, until ctx ends.
func (w *waker) Run(ctx context.Context, queue *history.Queue, recorder *history.Recorder) {
	var all sync.WaitGroup
	for range wakers {
		all.Go(func() { w.wakeLoop(ctx) })
	}
	all.Go(func() { w.sweepLoop(ctx, queue) })
	all.Go(func() { w.undoLoop(ctx, recorder) })
	all.Wait()
}

func (w *waker) wakeLoop(ctx context.Context) {
	for {
		t, ok := w.next()
		if !ok {
			select {
			case <-w.work:
				continue
			case <-ctx.Done():
				return
			}
		}
		if w.limit.Wait(ctx) != nil {
			return
		}
		if err := w.wake(ctx, t); err != nil && ctx.Err() == nil {
			w.log.Warn("could not start a webhook's queue; retrying", "webhook", t.WebhookID, "error", err)
			w.Wake(t)
			sleep.For(ctx, wakeAgain)
		}
	}
}

func (w *waker) wake(ctx context.Context, t delivery.Target) error {
	ctx, cancel := context.WithTimeout(ctx, wakeTimeout)
	defer cancel()
	defer failpoint.Here("after-wake")
	return workflows.WakeQueue(ctx, w.client, w.attributes, t)
}

// sweepLoop finds what a crash left: queues that nobody woke, recoveries and incidents that never began.
func (w *waker) sweepLoop(ctx context.Context, queue *history.Queue) {
	for sleep.For(ctx, sweepInterval) {
		overdue, recovering, err := queue.Overdue(ctx)
		w.free(ctx, overdue)
		for _, t := range overdue {
			w.Wake(delivery.Target(t))
		}
		for _, t := range recovering {
			if err := workflows.StartRecover(ctx, w.client, w.attributes, delivery.Target(t)); err != nil {
				w.log.Warn("could not start a recovery", "webhook", t.WebhookID, "error", err)
			}
		}
		if err = errors.Join(err, w.wakeIncidents(ctx, queue)); err != nil && ctx.Err() == nil {
			w.log.Warn("sweep failed", "error", err)
		}
	}
}

// undoLoop enables webhooks again that a blown fuse would have kept enabled: thousands take a minute, and sweeps do not wait for it.
func (w *waker) undoLoop(ctx context.Context, recorder *history.Recorder) {
	for sleep.For(ctx, sweepInterval) {
		if err := recorder.UndoFused(ctx); err != nil && ctx.Err() == nil {
			w.log.Warn("could not enable webhooks again that a fuse holds", "error", err)
		}
	}
}

func (w *waker) wakeIncidents(ctx context.Context, queue *history.Queue) error {
	stalled, err := queue.StalledIncidents(ctx)
	for _, id := range stalled {
		err = errors.Join(err, workflows.WakeIncident(ctx, w.client, id))
	}
	return err
}

// free has queues go on that a run holds which does not send them, see workflows.FreeQueue. It looks at some of those that are
// overdue, at random, as each costs a call.
func (w *waker) free(ctx context.Context, overdue []history.Webhook) {
	rand.Shuffle(len(overdue), func(i, j int) { overdue[i], overdue[j] = overdue[j], overdue[i] })
	for _, t := range overdue[:min(mostFreed, len(overdue))] {
		ended, err := workflows.FreeQueue(ctx, w.client, t.WebhookID)
		switch {
		case err != nil && ctx.Err() == nil:
			w.log.Warn("could not check what holds a webhook's queue", "webhook", t.WebhookID, "error", err)
			return
		case ended != "":
			w.log.Warn("terminated a workflow that held a webhook's queue", "webhook", t.WebhookID, "workflow", ended)
		}
	}
}
