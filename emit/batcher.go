package emit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/mathub/webhooks/webhook"
)

const (
	// DefaultStarts is how many workflow starts a Batcher has in progress at once, see BatcherOptions.
	DefaultStarts = 1
	// DefaultGroup is how many events share a workflow at most.
	DefaultGroup = 64
	// maxGroupBytes bounds the JSON of the events that share a workflow, unless one call brings more.
	maxGroupBytes = 256 << 10
	// patience is how long an event waits for its start: who emits learns within a second that there is no room. Where the
	// first that waits has waited for half of it, who comes in learns so at once.
	patience = 800 * time.Millisecond
	// startTimeout bounds one start. Temporal's client would go on trying for a minute.
	startTimeout = 15 * time.Second
)

// ErrBusy says that more is emitted than the engine takes. Nothing of the call was accepted.
var ErrBusy = errors.New("too many events are being emitted")

// BatcherOptions are how a Batcher works. The zero value is of use.
type BatcherOptions struct {
	// Starts is how many workflow starts are in progress at once; DefaultStarts when 0.
	Starts int
	// Group is how many events share a workflow at most; DefaultGroup when 0. 1 gives each event a workflow of its own.
	Group int
	// Options are for each start.
	Options []Option
	// Lookup, if not nil, is called before each start and says what is known of the events, in their order. The events have
	// ids, and a timestamp only where the emitter gave one.
	Lookup func(ctx context.Context, events []webhook.Event) ([]Known, error)
	// Started, if not nil, is called for each workflow that was started, with the number of its events.
	Started func(events int)
	// Progress, if not nil, is of the worker that delivers in the same process: nothing is started while that is behind.
	Progress *Progress
}

// Known is what is known of an event before it is accepted.
type Known struct {
	// Stored: an event with its id was accepted before, by the workflow WorkflowID. That is empty if the workflow was ended
	// before its work was done; another one is then started.
	Stored     bool
	WorkflowID string
	// Conflict: what was accepted says something else.
	Conflict bool
	// UnknownBotIDs are its BotIDs that name no bot.
	UnknownBotIDs []string
}

// Batcher emits events as [Event] and [Events] do, with group commit: a single event is started at once, and events that
// arrive while a workflow is being started share the next one. Safe for concurrent use.
type Batcher struct {
	client  client.Client
	options BatcherOptions

	mu       sync.Mutex
	starting int     // starts in progress; guarded by mu, as all below
	waiting  []*call // in the order in which they came
	recent   recent
}

// call is what one caller emits: it is accepted as a whole or not at all.
type call struct {
	ctx    context.Context // whose values, such as a trace's, go with a workflow of its own
	events []webhook.Event
	bytes  int
	since  time.Time
	taken  bool // by a start; guarded by Batcher.mu

	done     chan struct{} // closed when what follows is set
	receipts []Receipt
	err      error
}

// NewBatcher returns a Batcher on c.
func NewBatcher(c client.Client, o BatcherOptions) *Batcher {
	if o.Starts == 0 {
		o.Starts = DefaultStarts
	}
	if o.Group == 0 {
		o.Group = DefaultGroup
	}
	return &Batcher{client: c, options: o}
}

// Event accepts one event, see [Event]. The error is ErrBusy where it got no place within a second.
func (b *Batcher) Event(ctx context.Context, e webhook.Event) (Receipt, error) {
	if err := e.Validate(); err != nil {
		return Receipt{}, err
	}
	receipts, err := b.emit(ctx, []webhook.Event{e.Identify()})
	if err != nil {
		return Receipt{}, err
	}
	return receipts[0], nil
}

// Events accepts several events or none, see [Events]. The error is ErrBusy where they got no place within a second.
func (b *Batcher) Events(ctx context.Context, events []webhook.Event) ([]Receipt, error) {
	batch, err := webhook.NewBatch(events)
	if err != nil {
		return nil, err
	}
	return b.Batch(ctx, batch)
}

// Batch is Events for events that are known to be valid.
func (b *Batcher) Batch(ctx context.Context, batch webhook.Batch) ([]Receipt, error) {
	return b.emit(ctx, batch.Identify().Events())
}

func (b *Batcher) emit(ctx context.Context, events []webhook.Event) ([]Receipt, error) {
	c := &call{ctx: ctx, events: events, since: time.Now(), done: make(chan struct{})}
	for _, e := range events {
		c.bytes += len(e.Data) + 200 // and what is around it, more or less
		for _, id := range e.BotIDs {
			c.bytes += len(id) + len(`"",`)
		}
	}
	if !b.add(c) {
		return nil, ErrBusy
	}
	giveUp := time.NewTimer(patience)
	defer giveUp.Stop()
	for {
		select {
		case <-c.done:
			return c.receipts, c.err
		case <-giveUp.C:
			if b.withdraw(c) {
				return nil, ErrBusy
			}
		case <-ctx.Done():
			b.withdraw(c)
			return nil, ctx.Err()
		}
	}
}

// add has the call wait, and begins a start unless as many as may are in progress. false: there is no use in waiting.
func (b *Batcher) add(c *call) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) > 0 && c.since.Sub(b.waiting[0].since) > patience/2 {
		return false
	}
	b.waiting = append(b.waiting, c)
	if b.starting < b.options.Starts {
		b.starting++
		go b.startLoop()
	}
	return true
}

// withdraw takes a call back that no start has taken.
func (b *Batcher) withdraw(c *call) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.taken {
		return false
	}
	b.waiting = slices.DeleteFunc(b.waiting, func(other *call) bool { return other == c })
	return true
}

// startLoop starts what waits until nothing does.
func (b *Batcher) startLoop() {
	for {
		for b.waits() && b.options.Progress.await() {
		}
		calls := b.take()
		if len(calls) == 0 {
			return
		}
		b.start(calls)
	}
}

func (b *Batcher) waits() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting) > 0
}

// take returns the calls that share the next workflow. None: the loop that asks ends.
func (b *Batcher) take() []*call {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, events, bytes := 0, 0, 0
	for _, c := range b.waiting {
		events, bytes = events+len(c.events), bytes+c.bytes
		if n > 0 && (events > b.options.Group || bytes > maxGroupBytes) {
			break
		}
		c.taken = true
		n++
	}
	calls := b.waiting[:n:n]
	if b.waiting = b.waiting[n:]; len(b.waiting) == 0 {
		b.waiting = nil
	}
	if n == 0 {
		b.starting--
	}
	return calls
}

// start starts the workflow of calls and answers them.
func (b *Batcher) start(calls []*call) {
	ctx := context.Background()
	if len(calls) == 1 {
		ctx = context.WithoutCancel(calls[0].ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	receipts, err := b.accept(ctx, calls)
	for _, c := range calls {
		if c.err = err; err == nil {
			c.receipts, receipts = receipts[:len(c.events):len(c.events)], receipts[len(c.events):]
		}
		close(c.done)
	}
}

// accept starts the workflow of those events that were not accepted before, and returns receipts in the events' order.
func (b *Batcher) accept(ctx context.Context, calls []*call) (receipts []Receipt, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("emitting panicked: %v", p)
		}
	}()
	all, since := eventsOf(calls)
	if receipts, err = b.known(ctx, all); err != nil {
		return nil, err
	}
	places := map[string]int{} // of those to be started, by id: of one id in several calls, the first is accepted
	var fresh []webhook.Event
	var lately []accepted
	for i, e := range all {
		if receipts[i].Duplicate {
			continue
		}
		if n, again := places[e.ID]; again {
			receipts[i].Duplicate, receipts[i].Conflict = true, lately[n].content.conflicts(e)
			continue
		}
		places[e.ID] = len(fresh)
		e = e.Complete(since[i])
		fresh, lately = append(fresh, e), append(lately, accepted{id: e.ID, content: contentOf(e)})
	}
	if len(fresh) == 0 {
		return receipts, nil
	}
	b.options.Progress.started(fresh)
	s, err := start(ctx, b.client, fresh, failedOnly, b.options.Options...)
	if err == nil && s.completed {
		emitted := all[slices.IndexFunc(all, func(e webhook.Event) bool { return e.ID == fresh[0].ID })]
		s, err = b.startAgain(ctx, emitted, fresh[0], s)
	}
	if err != nil {
		return nil, err
	}
	for i, e := range all {
		if _, isStarted := places[e.ID]; !isStarted {
			continue
		}
		receipts[i].WorkflowID = s.workflowID
		if s.duplicate { // of what another process accepted: what these calls say is none of it
			receipts[i].Duplicate, receipts[i].Conflict = true, s.before.conflicts(e)
		}
	}
	if s.duplicate {
		b.options.Progress.notStarted(fresh)
		return receipts, nil
	}
	if b.options.Started != nil {
		b.options.Started(len(fresh))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.recent.add(lately, s.workflowID, time.Now())
	return receipts, nil
}

// eventsOf are those of calls in their order, and since when each waits.
func eventsOf(calls []*call) (all []webhook.Event, since []time.Time) {
	for _, c := range calls {
		for _, e := range c.events {
			all, since = append(all, e), append(since, c.since)
		}
	}
	return all, since
}

// startAgain starts an event's completed workflow again, unless the event was stored since the lookup. Its rows may be lost,
// for example because the database was restored.
func (b *Batcher) startAgain(ctx context.Context, emitted, complete webhook.Event, there started) (started, error) {
	if b.options.Lookup == nil {
		return startAgain(ctx, b.client, emitted, complete, there, b.options.Options...)
	}
	known, err := b.options.Lookup(ctx, []webhook.Event{emitted})
	if err != nil || known[0].WorkflowID != "" {
		return there, err
	}
	return start(ctx, b.client, []webhook.Event{complete}, unlessRunning, b.options.Options...)
}

func (b *Batcher) lookUp(ctx context.Context, events []webhook.Event) ([]Known, error) {
	if b.options.Lookup == nil {
		return make([]Known, len(events)), nil
	}
	return b.options.Lookup(ctx, events)
}

// known begins the receipts of events: whole of those that were accepted before.
func (b *Batcher) known(ctx context.Context, events []webhook.Event) ([]Receipt, error) {
	known, err := b.lookUp(ctx, events)
	if err != nil {
		return nil, err
	}
	lately := make([]accepted, len(events))
	for i, e := range events {
		if !known[i].Stored {
			lately[i] = b.remembered(e.ID)
		}
	}
	statuses := b.statuses(ctx, lately)
	if b.options.Lookup != nil && slices.Contains(slices.Collect(maps.Values(statuses)), statusCompleted) {
		// Its events were stored since, or they are there no more.
		if known, err = b.lookUp(ctx, events); err != nil {
			return nil, err
		}
		maps.DeleteFunc(statuses, func(_ string, s enums.WorkflowExecutionStatus) bool { return s == statusCompleted })
	}
	receipts := make([]Receipt, len(events))
	for i, e := range events {
		k := known[i]
		before := lately[i]
		if status, there := statuses[before.workflowID]; there && !k.Stored && !WasEnded(status) {
			k.WorkflowID, k.Conflict = before.workflowID, before.content.conflicts(e)
		}
		receipts[i] = Receipt{ID: e.ID, WorkflowID: k.WorkflowID, Duplicate: k.WorkflowID != "", UnknownBotIDs: k.UnknownBotIDs}
		receipts[i].Conflict = receipts[i].Duplicate && k.Conflict
	}
	return receipts, nil
}
