package activities

import (
	"context"
	"hash/fnv"
	"math/rand/v2"
	"time"

	"github.com/mathub/webhooks/db"
)

const (
	// heldPatience is how long AdmitHeld waits in this process, which costs next to nothing: a burst of healthy
	// deliveries has passed by then, and an exchange that hangs has ended.
	heldPatience = 6 * time.Second
	// heldLatest is when it answers at the latest, well within a local activity's time.
	heldLatest = 7 * time.Second
	// heldLook is how often it looks whether the bot still has anyone to deliver to.
	heldLook = 3 * time.Second
	// heldFirst, four times as long each round, up to heldMost, is when it is asked again: every event for a bot in
	// trouble asks, so that they must not ask often.
	heldFirst = time.Minute
	heldMost  = 15 * time.Minute
)

// crowdedBots are the bots that have as much under way as they may have.
func (a *Activities) crowdedBots() []string { return a.lanes.crowded(a.handoff.onTheirWay()) }

// awaitRoom waits until the bot has room for some deliveries more of an event, and says for how many, a page at most;
// or until the event goes to none of its webhooks any more: 0, true; or for heldPatience: 0, false. Until roomTaken is
// called then, with the deliveries on their way, nobody else is given any room.
func (a *Activities) awaitRoom(ctx context.Context, in HeldInput, e storedEvent) (room int, done bool, err error) {
	giveUp := time.Now().Add(heldPatience)
	look := nextLook(e.ID, time.Now())
	for {
		a.admitting.Lock()
		if room, _ := a.lanes.room(in.BotID, a.handoff.onTheirWayTo(in.BotID)); room > 0 {
			return min(room, PageSize), false, nil
		}
		a.admitting.Unlock()
		now := time.Now()
		over := now.After(giveUp) || ctx.Err() != nil
		if over || now.After(look) {
			left, err := a.queries.HeldSubscribers(ctx, a.cfg.Pool, db.HeldSubscribersParams{
				EventType: string(e.Type), Held: []string{in.BotID}, After: in.After, Upto: in.Upto,
			})
			if err != nil || len(left) == 0 || over {
				return 0, len(left) == 0, err
			}
			look = nextLook(e.ID, now)
		}
		time.Sleep(time.Duration(100+rand.IntN(100)) * time.Millisecond)
	}
}

// nextLook is when those who wait with an event look whether it still goes to anyone. It is the same time for all of an
// event and another for each event: when a bot's webhooks are disabled, hundreds of workflows have nothing left to do,
// and all their ends at once would be a burst for the engine.
func nextLook(eventID string, now time.Time) time.Time {
	h := fnv.New32a()
	_, _ = h.Write([]byte(eventID))
	phase := time.Duration(h.Sum32()) * time.Microsecond % heldLook
	return now.Add(-phase).Truncate(heldLook).Add(heldLook + phase)
}

func (a *Activities) roomTaken() { a.admitting.Unlock() }

// heldDelay is when to ask about a bot again after so many rounds in vain, ±20 %.
func heldDelay(round int, inTrouble bool) time.Duration {
	if !inTrouble { // it only has a lot to do
		return time.Second
	}
	delay := heldFirst
	for ; round > 0 && delay < heldMost; round-- {
		delay *= 4
	}
	return time.Duration(float64(min(delay, heldMost)) * (0.8 + 0.4*rand.Float64()))
}

func sleepUntil(ctx context.Context, at time.Time) {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
