// Package admission decides how many deliveries to webhooks in direct mode may be in flight at once in one process. It is
// a pure data structure: no clock, no goroutine, no I/O. Whoever waits for a place does so outside, see
// internal/delivery/admit.go.
package admission

import (
	"container/list"

	"github.com/google/uuid"
)

const (
	// FirstWindow is how many deliveries to a webhook may be in flight at first, and again after a failure: what a
	// receiver that begins to hang holds up in one process.
	FirstWindow = 4
	// LargestWindow is how far a window grows.
	LargestWindow = 32
	// BotShare is how many deliveries to all webhooks of one bot may be in flight in one process.
	BotShare = 128
)

// Outcome is how a delivery that had a place ended.
type Outcome int

const (
	// NotMade says that the receiver had no part in it: nothing was sent, or our own side failed.
	NotMade Outcome = iota
	// Taken says that the receiver took it.
	Taken
	// Failed says that the receiver did not take it.
	Failed
)

// Windows are the windows of all webhooks and the shares of all bots in a process. A webhook's window grows by one with each
// success while it is full. It returns to FirstWindow after a failure or when nothing is in flight, so memory is bounded by
// what is in flight and what waits. The zero value is not usable; use New. Not safe for concurrent use.
type Windows struct {
	webhooks map[uuid.UUID]*window
	bots     map[string]*share
	// Of all bots.
	inFlight, waiting int
}

type window struct {
	id             uuid.UUID
	bot            *share
	size, inFlight int
	granted        int        // how many places it has had
	waiting        *list.List // of *Ticket, in the order in which they came
	ready          bool       // it stands in bot.ready
}

type share struct {
	id                string
	inFlight, waiting int
	granted           int // how many places its webhooks have had
	// ready are the windows that have a place and someone who waits for it, so that only the bot's share is in the way.
	// They are served in turn.
	ready *list.List // of *window
}

// Ticket is a delivery that has a place, or waits for one.
type Ticket struct {
	window  *window
	element *list.Element // in window.waiting; nil: it does not wait
	granted bool
	// Woken is the caller's, to wake who waits; this package does not touch it.
	Woken chan struct{}
}

// Granted says whether the delivery may begin.
func (t *Ticket) Granted() bool { return t.granted }

// Wait is what a ticket waits for at one moment: places in its webhook's window or, where that has one, in its bot's share.
type Wait struct {
	// Places is how many places there are.
	Places  int
	granted *int
	before  int
}

// Wait says what the ticket waits for now.
func (t *Ticket) Wait() Wait {
	x := t.window
	if x.inFlight < x.size {
		return Wait{BotShare, &x.bot.granted, x.bot.granted}
	}
	return Wait{x.size, &x.granted, x.granted}
}

// Progress is how many of the places have come free since. While there are none, the receivers do not answer.
func (w Wait) Progress() int { return *w.granted - w.before }

// New returns windows with nothing in flight.
func New() *Windows {
	return &Windows{webhooks: map[uuid.UUID]*window{}, bots: map[string]*share{}}
}

// Offer asks for a place. The ticket is granted, or waits in turn: until Ended or Leave returns it, or Withdraw takes it
// back. Each granted ticket must be given to Ended once.
func (w *Windows) Offer(webhookID uuid.UUID, botID string) *Ticket {
	x := w.webhooks[webhookID]
	if x == nil {
		bot := w.bots[botID]
		if bot == nil {
			bot = &share{id: botID, ready: list.New()}
			w.bots[botID] = bot
		}
		x = &window{id: webhookID, bot: bot, size: FirstWindow, waiting: list.New()}
		w.webhooks[webhookID] = x
	}
	t := &Ticket{window: x}
	t.element = x.waiting.PushBack(t)
	x.bot.waiting++
	w.waiting++
	w.grant(x)
	return t
}

// Waiting is how many deliveries to a bot's webhooks wait.
func (w *Windows) Waiting(botID string) int {
	if b := w.bots[botID]; b != nil {
		return b.waiting
	}
	return 0
}

// Ended gives a place back and returns the tickets that are granted by it.
func (w *Windows) Ended(t *Ticket, o Outcome) []*Ticket {
	x := t.window
	full := x.inFlight >= x.size
	x.inFlight--
	x.bot.inFlight--
	w.inFlight--
	switch {
	case o == Failed:
		x.size = FirstWindow
	case o == Taken && full:
		x.size = min(x.size+1, LargestWindow)
	}
	granted := w.grant(x)
	w.forget(x)
	return granted
}

// Withdraw takes a ticket back that waits. false: it is granted, or has left, already.
func (w *Windows) Withdraw(t *Ticket) bool {
	if t.element == nil {
		return false
	}
	w.unqueue(t)
	w.forget(t.window)
	return true
}

// Leave takes back all tickets that wait for a webhook and returns them.
func (w *Windows) Leave(webhookID uuid.UUID) []*Ticket {
	x := w.webhooks[webhookID]
	if x == nil {
		return nil
	}
	var left []*Ticket
	for e := x.waiting.Front(); e != nil; e = x.waiting.Front() {
		t := e.Value.(*Ticket)
		w.unqueue(t)
		left = append(left, t)
	}
	w.forget(x)
	return left
}

// Load is how many deliveries are in flight and wait.
func (w *Windows) Load() (inFlight, waiting int) { return w.inFlight, w.waiting }

func (w *Windows) unqueue(t *Ticket) {
	t.window.waiting.Remove(t.element)
	t.element = nil
	t.window.bot.waiting--
	w.waiting--
}

// grant hands out what places there are after a change to x.
func (w *Windows) grant(x *window) (granted []*Ticket) {
	b := x.bot
	if !x.ready && x.hasPlace() {
		x.ready = true
		b.ready.PushBack(x)
	}
	for b.inFlight < BotShare && b.ready.Len() > 0 {
		next := b.ready.Remove(b.ready.Front()).(*window)
		next.ready = false
		if !next.hasPlace() { // those who waited have left, or the window has shrunk
			continue
		}
		t := next.waiting.Front().Value.(*Ticket)
		w.unqueue(t)
		t.granted = true
		next.inFlight++
		next.granted++
		b.inFlight++
		w.inFlight++
		b.granted++
		granted = append(granted, t)
		if next.hasPlace() {
			next.ready = true
			b.ready.PushBack(next)
		}
	}
	return granted
}

// hasPlace: someone waits, and the window is not full.
func (x *window) hasPlace() bool { return x.waiting.Len() > 0 && x.inFlight < x.size }

func (w *Windows) forget(x *window) {
	if x.inFlight > 0 || x.waiting.Len() > 0 {
		return
	}
	delete(w.webhooks, x.id)
	if x.bot.inFlight == 0 && x.bot.waiting == 0 {
		delete(w.bots, x.bot.id)
	}
}
