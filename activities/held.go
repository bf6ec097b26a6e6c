package activities

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	// heldPatience is how long AdmitHeld waits in this process, which costs next to nothing: a burst of healthy
	// deliveries has passed by then, and an exchange that hangs has ended.
	heldPatience = 6 * time.Second
	// heldFirst, four times as long each round, up to heldMost, is when it is asked again: every event for a bot in
	// trouble asks, so that they must not ask often.
	heldFirst = time.Minute
	heldMost  = 15 * time.Minute
)

// crowdedBots are the bots that have as much under way as they may have.
func (a *Activities) crowdedBots() []string { return a.lanes.crowded(a.handoff.onTheirWay()) }

// awaitRoom waits until the bot has room for some deliveries more, and says for how many, a page at most; 0: for none.
// Until roomTaken is called then, with the deliveries on their way, nobody else is given any.
func (a *Activities) awaitRoom(ctx context.Context, botID string) int {
	for giveUp := time.Now().Add(heldPatience); ; {
		a.admitting.Lock()
		if room := a.lanes.room(botID, a.handoff.onTheirWayTo(botID)); room > 0 {
			return min(room, PageSize)
		}
		a.admitting.Unlock()
		wait := time.Duration(100+rand.IntN(100)) * time.Millisecond
		if time.Now().Add(wait).After(giveUp) || ctx.Err() != nil {
			return 0
		}
		time.Sleep(wait)
	}
}

func (a *Activities) roomTaken() { a.admitting.Unlock() }

// heldDelay is when to ask again after so many rounds in vain, ±20 %.
func heldDelay(round int) time.Duration {
	delay := heldFirst
	for ; round > 0 && delay < heldMost; round-- {
		delay *= 4
	}
	return time.Duration(float64(min(delay, heldMost)) * (0.8 + 0.4*rand.Float64()))
}
