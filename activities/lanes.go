package activities

import (
	"container/list"
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/webhook"
)

// The caps that keep a bad receiver's trouble its own, in each worker. Waiting for a turn is never the receiver's
// failure.
const (
	// pauseAfterFailure is how long a webhook is left alone after a failed exchange: with it, events that fall into
	// a two-second restart of a receiver cost it one or two failures; without it, one a millisecond.
	pauseAfterFailure = time.Second
	// hangingAfter is how long an exchange may be under way before its webhook gets no more in the fast lane.
	hangingAfter = time.Second
	// lingeringAfter and maxLingering say when a bot's receivers are in trouble: so many exchanges older than that,
	// and the bot's next ones go to the slow lane. It takes several, as one may be late for our own machine's load.
	lingeringAfter = time.Second
	maxLingering   = 16
	// maxFastPerBot bounds a bot's exchanges in the fast lane even before the oldest of them lingers. More wait, for
	// fastPatience at most: a burst of healthy deliveries passes quickly.
	maxFastPerBot = 128
	fastPatience  = 3 * time.Second
	// maxInHandPerBot is how many deliveries to a bot may be under way, wait, or be on their way to a lane, before the
	// next of a large part of an audience are started, see AdmitHeld: to start each and turn it away would cost far more.
	maxInHandPerBot = 256
	// maxAtOncePerBot is how much of a large audience may be one bot's without being held back, for the same reason.
	maxAtOncePerBot = 100
	// maxInHandInTrouble is the same for a bot whose receivers linger, or did so within troubledFor, and for all events.
	maxInHandInTrouble = maxSlowPerBot
	troubledFor        = 30 * time.Second
	// maxParkedPerBot and parkPatience bound who waits, in the fast lane, for the end of an exchange that hangs. To
	// wait here costs next to nothing; to go to the slow lane costs the engine a dozen writes. An exchange ends after
	// 5 s, and often the webhook is disabled then, so that there is nothing left to send.
	maxParkedPerBot = 512
	parkPatience    = 6 * time.Second
	// verdictPatience is how long a failed delivery waits for others under way to its webhook, before it is decided
	// whether there is a next attempt.
	verdictPatience = 1500 * time.Millisecond
	// maxSlowPerWebhook bounds the exchanges with a webhook that is slow but does not fail.
	maxSlowPerWebhook = 4
	// maxSlowPerBot bounds a bot's exchanges in the slow lane.
	maxSlowPerBot = 16
	// maxWaitingPerWebhook and maxWaitingPerBot bound who waits in the slow lane, as each holds one of its slots.
	maxWaitingPerWebhook = 4
	maxWaitingPerBot     = 32
	// turnedAway and latestAppointment bound when a delivery comes again that waited in vain.
	turnedAway        = 5 * time.Second
	latestAppointment = 30 * time.Minute
	// slowPatience is how long one wait in the slow lane lasts before the slot is given back.
	slowPatience = 8 * time.Second
)

// lanes decides which exchanges may begin: by webhook and by bot.
type lanes struct {
	mu       sync.Mutex
	webhooks map[uuid.UUID]*traffic
	bots     map[string]*traffic
}

// traffic is what is under way to one webhook, or to all webhooks of one bot.
type traffic struct {
	started *list.List // of time.Time, oldest first
	slow    int        // how many of them are in the slow lane
	waiting int
	parked  int
	changed chan struct{} // closed when a turn ends; nil when nobody waits
	// remembered: a timer will forget it.
	remembered bool
	settled    chan struct{} // closed when nothing is under way any more; nil when nobody waits for that

	// Of a bot only. places holds one for each of its exchanges in the fast lane, and has room for maxFastPerBot.
	places chan struct{}
	// troubledUntil is when it may have as much in hand again as others.
	troubledUntil time.Time
	// appointment is when the next delivery that the slow lane turns away is to come again.
	appointment time.Time

	// Of a webhook only:
	failing  bool
	resumeAt time.Time
}

func newLanes() *lanes {
	return &lanes{webhooks: map[uuid.UUID]*traffic{}, bots: map[string]*traffic{}}
}

// turn is the right to one exchange. end must be called once.
type turn struct {
	lanes            *lanes
	webhookID        uuid.UUID
	botID            string
	webhook, bot     *traffic
	inWebhook, inBot *list.Element
	lane             lane
}

type lane int

const (
	// onDemand is a person's: it goes to disabled webhooks too and is never retried.
	onDemand lane = iota
	fastLane
	slowLane
)

// enter gives a turn in the lane that the delivery j came by.
func (l *lanes) enter(ctx context.Context, in lane, webhookID uuid.UUID, j job) (*turn, bool) {
	switch in {
	case fastLane:
		return l.fast(ctx, webhookID, j.botID)
	case slowLane:
		return l.slow(ctx, webhookID, j.botID, j.failing)
	}
	return l.now(ctx, webhookID, j.botID, j.failing)
}

// fast gives a turn in the fast lane. It waits for no webhook, and for the bot only while its exchanges are many
// rather than slow. false: the delivery belongs in the slow lane.
func (l *lanes) fast(ctx context.Context, webhookID uuid.UUID, botID string) (*turn, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w, b := trafficOf(l.webhooks, webhookID), trafficOf(l.bots, botID)
	if b.places == nil {
		b.places = make(chan struct{}, maxFastPerBot)
	}
	w.waiting++ // so that both are remembered
	b.waiting++
	giveUp := time.Now().Add(fastPatience)
	placed := false
	for !placed && !w.troubled(b) && time.Now().Before(giveUp) && ctx.Err() == nil {
		l.mu.Unlock()
		placed = b.place(ctx, min(lingeringAfter/4, time.Until(giveUp)))
		l.mu.Lock()
	}
	w.waiting--
	b.waiting--
	if placed && !w.troubled(b) {
		return l.begin(webhookID, w, botID, b, fastLane), true
	}
	if placed {
		<-b.places
	}
	l.forget(webhookID, w, botID, b)
	return nil, false
}

// settle waits, in the fast lane, until nothing is under way to the webhook any more, or for patience. false: there
// was nothing to wait for, or too many of the bot's wait already.
func (l *lanes) settle(ctx context.Context, webhookID uuid.UUID, botID string, patience time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	w, b := trafficOf(l.webhooks, webhookID), trafficOf(l.bots, botID)
	defer l.forget(webhookID, w, botID, b)
	if w.started.Len() == 0 || b.parked >= maxParkedPerBot {
		return false
	}
	w.parked++
	b.parked++
	timer := time.NewTimer(patience)
	defer timer.Stop()
	if w.settled == nil {
		w.settled = make(chan struct{})
	}
	settled := w.settled
	l.mu.Unlock()
	select {
	case <-settled:
	case <-timer.C:
	case <-ctx.Done():
	}
	l.mu.Lock()
	w.parked--
	b.parked--
	return true
}

// disperse holds back, for a moment, a delivery that waited in settle since a point in time and has nothing to send
// after all. When a webhook is disabled, hundreds of such are woken at once, and their workflows end: that many at once
// would keep the engine from everybody else's for a second. Who waited longest goes first.
func disperse(ctx context.Context, since time.Time, patience time.Duration) {
	sleepUntil(ctx, time.Now().Add((patience-time.Since(since))*2/3))
}

// unsettled says whether a burst in the fast lane is under way to the webhook still: its end may change what the
// database says of the webhook now.
func (l *lanes) unsettled(webhookID uuid.UUID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.webhooks[webhookID]
	return w != nil && w.started.Len() > w.slow
}

// place takes one of the bot's places in the fast lane, waiting for d at most. Those who wait are served in order, one
// for each place that comes free: to wake them all for each would cost a burst dearly.
func (t *traffic) place(ctx context.Context, d time.Duration) bool {
	select {
	case t.places <- struct{}{}:
		return true
	default:
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case t.places <- struct{}{}:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// troubled says whether the webhook t, or its bot as a whole, has no business in the fast lane now.
func (t *traffic) troubled(bot *traffic) bool {
	now := time.Now()
	return t.troubledItself(now) || bot.lingers(now)
}

func (t *traffic) troubledItself(now time.Time) bool {
	return t.failing || now.Before(t.resumeAt) || t.olderThan(now.Add(-hangingAfter), 1)
}

// troubled says whether it is the webhook's own doing that it has no business in the fast lane now.
func (l *lanes) troubled(webhookID uuid.UUID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.webhooks[webhookID]
	return w != nil && w.troubledItself(time.Now())
}

// lingers says whether the bot's receivers are in trouble, and remembers it.
func (t *traffic) lingers(now time.Time) bool {
	lingers := t.olderThan(now.Add(-lingeringAfter), maxLingering)
	if lingers {
		t.troubledUntil = now.Add(troubledFor)
	}
	return lingers
}

// inTrouble says whether the bot's receivers linger, or did lately.
func (t *traffic) inTrouble() bool {
	now := time.Now()
	return t.lingers(now) || now.Before(t.troubledUntil)
}

// room is how many more deliveries the bot may have in hand, beside those on their way to a lane.
func (t *traffic) room(onTheirWay int) int {
	most := maxInHandPerBot
	if t.inTrouble() {
		most = maxInHandInTrouble
	}
	return max(0, most-onTheirWay-t.started.Len()-t.waiting-t.parked)
}

// crowded are the bots in trouble that have no room. A bot that is well may have a backlog: its deliveries pass quickly.
func (l *lanes) crowded(onTheirWay map[string]int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	bots := []string{}
	for id, b := range l.bots {
		if b.inTrouble() && b.room(onTheirWay[id]) == 0 {
			bots = append(bots, id)
		}
	}
	return bots
}

// room is how many more deliveries the bot may have in hand, and whether it is in trouble.
func (l *lanes) room(botID string, onTheirWay int) (n int, inTrouble bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.bots[botID]; b != nil {
		return b.room(onTheirWay), b.inTrouble()
	}
	return max(0, maxInHandPerBot-onTheirWay), false
}

// appoint says when a delivery that the slow lane has turned away is to come again: in turnedAway, or, of a bot that
// many were turned away of, as much later as the lane needs for those before it.
func (l *lanes) appoint(botID string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := trafficOf(l.bots, botID)
	defer l.forget(uuid.Nil, nil, botID, b)
	now := time.Now()
	b.appointment = b.appointment.Add(webhook.AttemptTimeout / maxSlowPerBot)
	if soonest := now.Add(turnedAway); b.appointment.Before(soonest) {
		b.appointment = soonest
	}
	if latest := now.Add(latestAppointment); b.appointment.After(latest) {
		b.appointment = latest
	}
	return b.appointment.Sub(now)
}

// slow gives a turn in the slow lane, waiting up to slowPatience. failing is what the database says: the webhook
// has a failure run.
func (l *lanes) slow(ctx context.Context, webhookID uuid.UUID, botID string, failing bool) (*turn, bool) {
	return l.await(ctx, webhookID, botID, slowLane, time.Now().Add(slowPatience), func(w, b *traffic, now time.Time) verdict {
		most := maxSlowPerWebhook
		if failing || w.failing {
			most = 1
		}
		switch {
		case w.started.Len() < most && b.slow < maxSlowPerBot && !now.Before(w.resumeAt):
			return granted
		case w.waiting >= maxWaitingPerWebhook || b.waiting >= maxWaitingPerBot:
			return refused
		}
		return wait
	})
}

// now gives a turn to a person who waits for the answer: it only waits while a failing webhook has another exchange
// under way.
func (l *lanes) now(ctx context.Context, webhookID uuid.UUID, botID string, failing bool) (*turn, bool) {
	return l.await(ctx, webhookID, botID, onDemand, time.Now().Add(slowPatience), func(w, _ *traffic, _ time.Time) verdict {
		if (failing || w.failing) && w.started.Len() > 0 {
			return wait
		}
		return granted
	})
}

type verdict int

const (
	granted verdict = iota
	wait
	refused
)

func (l *lanes) await(ctx context.Context, webhookID uuid.UUID, botID string, in lane, giveUp time.Time, rule func(w, b *traffic, now time.Time) verdict) (*turn, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		w, b := trafficOf(l.webhooks, webhookID), trafficOf(l.bots, botID)
		now := time.Now()
		v := rule(w, b, now)
		if v == granted {
			return l.begin(webhookID, w, botID, b, in), true
		}
		if v == refused || !now.Before(giveUp) || ctx.Err() != nil {
			l.forget(webhookID, w, botID, b)
			return nil, false
		}
		until := giveUp
		if now.Before(w.resumeAt) && w.resumeAt.Before(until) {
			until = w.resumeAt
		}
		w.wait(ctx, l, b, until)
	}
}

func (l *lanes) begin(webhookID uuid.UUID, w *traffic, botID string, b *traffic, in lane) *turn {
	if in == slowLane {
		w.slow++
		b.slow++
	}
	now := time.Now()
	return &turn{
		lanes: l, webhookID: webhookID, botID: botID, webhook: w, bot: b, lane: in,
		inWebhook: w.started.PushBack(now), inBot: b.started.PushBack(now),
	}
}

// wait gives up the lock until a turn at t or b ends, or until comes.
func (t *traffic) wait(ctx context.Context, l *lanes, b *traffic, until time.Time) {
	t.waiting++
	b.waiting++
	atWebhook, atBot := t.signal(), b.signal()
	l.mu.Unlock()
	timer := time.NewTimer(time.Until(until))
	select {
	case <-atWebhook:
	case <-atBot:
	case <-timer.C:
	case <-ctx.Done():
	}
	timer.Stop()
	l.mu.Lock()
	t.waiting--
	b.waiting--
}

// end gives the turn back. attempted: there was an exchange, and success how it ended.
func (t *turn) end(attempted, success bool) {
	l := t.lanes
	l.mu.Lock()
	defer l.mu.Unlock()
	t.webhook.started.Remove(t.inWebhook)
	t.bot.started.Remove(t.inBot)
	switch t.lane {
	case slowLane:
		t.webhook.slow--
		t.bot.slow--
	case fastLane:
		<-t.bot.places
	case onDemand:
	}
	if attempted {
		t.webhook.failing = !success
		t.webhook.resumeAt = time.Time{}
		if !success {
			t.webhook.resumeAt = time.Now().Add(pauseAfterFailure)
		}
	}
	t.webhook.broadcast()
	t.bot.broadcast()
	if t.webhook.started.Len() == 0 && t.webhook.settled != nil {
		close(t.webhook.settled)
		t.webhook.settled = nil
	}
	l.forget(t.webhookID, t.webhook, t.botID, t.bot)
}

// forget drops what nothing is known of any more. A webhook's failure is remembered for its pause, a bot's trouble and
// appointments until they have passed; what lasts longer is in the database.
func (l *lanes) forget(webhookID uuid.UUID, w *traffic, botID string, b *traffic) {
	forgetIdle(l, l.bots, botID, b)
	if w != nil {
		forgetIdle(l, l.webhooks, webhookID, w)
	}
}

func forgetIdle[K comparable](l *lanes, all map[K]*traffic, key K, t *traffic) {
	if !t.idle() {
		return
	}
	left := time.Until(t.rememberUntil())
	if left <= 0 {
		if all[key] == t {
			delete(all, key)
		}
		return
	}
	if t.remembered {
		return
	}
	t.remembered = true
	time.AfterFunc(left, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		t.remembered = false
		forgetIdle(l, all, key, t)
	})
}

func (t *traffic) rememberUntil() time.Time {
	until := t.resumeAt
	for _, other := range []time.Time{t.troubledUntil, t.appointment} {
		if other.After(until) {
			until = other
		}
	}
	return until
}

func trafficOf[K comparable](m map[K]*traffic, key K) *traffic {
	t := m[key]
	if t == nil {
		t = &traffic{started: list.New()}
		m[key] = t
	}
	return t
}

func (t *traffic) idle() bool { return t.started.Len() == 0 && t.waiting == 0 && t.parked == 0 }

// olderThan says whether at least n of what is under way began before limit.
func (t *traffic) olderThan(limit time.Time, n int) bool {
	if t.started.Len() < n {
		return false
	}
	e := t.started.Front()
	for range n - 1 {
		e = e.Next()
	}
	return e.Value.(time.Time).Before(limit)
}

func (t *traffic) signal() <-chan struct{} {
	if t.changed == nil {
		t.changed = make(chan struct{})
	}
	return t.changed
}

func (t *traffic) broadcast() {
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}
