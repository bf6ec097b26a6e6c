package simulation

import (
	"cmp"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

// store is Postgres: the tables, and the statements of queries/*.sql. Each method is one statement or one transaction.
type store struct {
	hooks      []*hook
	events     []*event // committed, by time of acceptance and id
	byID       map[string]*event
	inserting  map[string]*insertion
	pairs      map[pair]*pairState
	deliveries map[deliveryKey]*entry
	rows       map[pair]*row
	recoveries []*recovery
	seq        int
	sweptAt    time.Duration
	orderLock  *insertion      // who adds rows of ordered webhooks; nil: nobody
	pauses     map[string]bool // by the webhook's number, its bot, or "all"
	resumedAt  time.Duration   // when a pause last ended
}

// The event types of the simulation: two to subscribe to, and that of tests.
const (
	typeA uint8 = 1 << iota
	typeB
	typeTest
)

// hook is a row of webhooks, and its receiver.
type hook struct {
	n         int
	id        uuid.UUID
	bot       string
	health    history.Health
	events    uint8
	ordered   bool
	from      time.Duration // from when on it is ordered
	resumeAt  time.Duration
	deleted   bool
	suspended bool          // its bot is
	disabled  time.Duration // when last
	enabledAt time.Duration
	queue     []*row

	receiver receiver
	check    hookCheck
}

// event is a row of events.
type event struct {
	id         string
	kind       uint8
	only       *hook // of a test: whom it goes to
	owner      int   // the run that owns it
	acceptedAt time.Duration
	committed  time.Duration
}

// insertion is an event that a transaction has inserted and not committed.
type insertion struct {
	w     *worker
	epoch int
}

type pair struct {
	ev *event
	h  *hook
}

// pairState is what the deliveries say of an event and a webhook.
type pairState struct {
	last      int // number of the last attempt
	success   bool
	final     bool // the last attempt had no next by the schedule
	posts     []*post
	asked     bool // a person asked for the event
	recovered bool // a recovery has sent it
	cancelled bool // a person cancelled its recovery
	faulted   bool // our own side could not attempt it once
}

type deliveryKey struct {
	ev     *event
	h      *hook
	number int
}

// entry is a row of deliveries.
type entry struct {
	ev       *event
	number   int
	success  bool
	enabled  int // how often the webhook had been enabled when the attempt was prepared
	readAt   int // in steps
	recorded int // in steps
	counts   bool
}

// row is a row of queue.
type row struct {
	ev       *event
	h        *hook
	seq      int
	attempt  int
	step     int
	trigger  webhook.Trigger
	due      time.Duration
	recovery *recovery
	changed  time.Duration // when it was inserted, or became due sooner
	turns    bool          // the webhook was direct, and paused
}

// longAgo is the due time of what goes before all else.
const longAgo = -time.Hour

func newStore() store {
	return store{
		byID: map[string]*event{}, inserting: map[string]*insertion{}, pairs: map[pair]*pairState{},
		deliveries: map[deliveryKey]*entry{}, rows: map[pair]*row{}, sweptAt: longAgo, pauses: map[string]bool{},
	}
}

func (st *store) pair(ev *event, h *hook) *pairState {
	key := pair{ev, h}
	p := st.pairs[key]
	if p == nil {
		p = &pairState{}
		st.pairs[key] = p
	}
	return p
}

func (h *hook) subscribes(kind uint8) bool {
	return !h.deleted && h.health.Active && !h.suspended && h.events&kind != 0
}

// planned is what Enqueue inserts.
type planned struct {
	ev       *event
	h        *hook
	number   int
	step     int
	trigger  webhook.Trigger
	delay    time.Duration
	recovery *recovery
}

// enqueue is Enqueue of one row. It returns the pair's row.
func (s *sim) enqueue(p planned) *row {
	due := s.now + p.delay
	switch {
	case p.delay < 0:
		due = longAgo
	case p.h.ordered && !p.trigger.Manual() && !s.is(headIsDelayed):
		due = p.ev.acceptedAt
	case p.delay == 0 && p.trigger == webhook.TriggerEvent:
		due = p.ev.acceptedAt
	}
	if r := s.store.rows[pair{p.ev, p.h}]; r != nil {
		if due < r.due && !p.h.ordered {
			r.due, r.changed = due, s.now
		}
		return r
	}
	s.store.seq++
	return s.insert(&row{ev: p.ev, h: p.h, seq: s.store.seq, attempt: p.number, step: p.step, trigger: p.trigger, due: due, recovery: p.recovery})
}

func (s *sim) insert(r *row) *row {
	r.changed = s.now
	s.store.rows[pair{r.ev, r.h}] = r
	r.h.queue = append(r.h.queue, r)
	return r
}

// removeRows removes the rows of a webhook for which f says so.
func (s *sim) removeRows(h *hook, f func(*row) bool) {
	h.queue = slices.DeleteFunc(h.queue, func(r *row) bool {
		if f(r) {
			delete(s.store.rows, pair{r.ev, r.h})
			return true
		}
		return false
	})
}

// removeAttempted is RemoveAttempted of one attempt.
func (s *sim) removeAttempted(ev *event, h *hook, number int) {
	if r := s.store.rows[pair{ev, h}]; r != nil && r.attempt <= number {
		s.removeRows(h, func(other *row) bool { return other == r })
	}
}

// stopWebhook is StopWebhooks.
func (s *sim) stopWebhook(h *hook) {
	if !s.is(queueOutlivesDisabling) {
		s.removeRows(h, func(r *row) bool { return !r.trigger.Manual() })
	}
	if r := s.running(h); r != nil {
		r.state = history.RecoveryStopped
	}
	s.checkDisabled(h)
}

// unwoken is Unwoken of rows of one webhook.
func (s *sim) unwoken(rows []*row) bool {
	for _, r := range rows {
		if s.paused(r.h) {
			if r.due > s.now {
				return true
			}
			continue
		}
		others := slices.ContainsFunc(r.h.queue, func(q *row) bool {
			return q.seq < r.seq && (q.due <= max(r.due, s.now) || s.is(anyOlderRowWakes))
		})
		if !others {
			return true
		}
	}
	return false
}

// due returns the rows of a webhook that are due, oldest first: TakeDue. What an ordered one's recovery may yet find goes first.
func (s *sim) due(h *hook, most int) []*row {
	var due []*row
	upto, recovers := s.orderedUpto(h)
	for _, r := range h.queue {
		if r.due <= s.now && (!recovers || r.trigger.Manual() || r.due <= upto) {
			due = append(due, r)
		}
	}
	slices.SortFunc(due, func(a, b *row) int { return cmp.Or(isLater(a, b), cmp.Compare(a.due, b.due), a.seq-b.seq) })
	return due[:min(most, len(due))]
}

// isLater puts what a person asked for first.
func isLater(a, b *row) int {
	switch {
	case a.trigger.Manual() == b.trigger.Manual():
		return 0
	case a.trigger.Manual():
		return -1
	}
	return 1
}

func (r *row) taken() history.Row {
	out := history.Row{EventID: r.ev.id, Attempt: r.attempt, Step: r.step, Trigger: r.trigger}
	if r.recovery != nil {
		out.RecoveryID = r.recovery.id
	}
	return out
}

// queueState is QueueState: all of a history.QueueState but what is due, and whether the webhook is queued.
func (s *sim) queueState(h *hook) (q history.QueueState, queued bool) {
	q = history.QueueState{BotID: h.bot, Active: h.health.Active, Ordered: h.ordered && !s.is(wideInOrder), FailureCount: int(h.health.FailureCount), Waiting: len(h.queue)}
	if s.paused(h) {
		q.Paused = &history.Pause{}
	}
	first := true
	for _, r := range h.queue {
		in := max(0, r.due-s.now)
		if q.Paused != nil && in == 0 {
			continue
		}
		if first || in < q.NextIn {
			q.NextIn, first = in, false
		}
	}
	q.ResumeIn = max(0, h.resumeAt-s.now, h.from-s.now)
	return q, h.health.Queued && (!h.ordered || s.is(orderedTurnsDirect))
}

// setDirect is SetDirect, under the webhook's lock.
func (s *sim) setDirect(h *hook) {
	if h.health.FailureCount > 0 && !s.is(directWhileFailing) || !h.health.Queued || h.ordered && !s.is(orderedTurnsDirect) {
		return
	}
	if len(s.due(h, 1)) > 0 && !s.is(directWithRowsDue) {
		return
	}
	h.health.Queued = false
	s.logf("webhook %d turns direct", h.n)
	s.checkDirect(h)
}
