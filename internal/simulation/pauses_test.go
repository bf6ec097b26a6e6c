package simulation

import (
	"fmt"
	"slices"
	"time"
)

// anyPause is what a pause of all covers.
const anyPause = "all"

func (h *hook) host() string { return fmt.Sprintf("host%d", h.n) }

// paused is pauses_of: whether a pause covers a webhook.
func (s *sim) paused(h *hook) bool {
	p := s.store.pauses
	return p[anyPause] || p[h.bot] || p[h.host()]
}

// pause is history.Pauses.Begin of all, a bot or a host.
func (s *sim) pause(of string) {
	s.store.pauses[of] = true
	for _, h := range s.store.hooks {
		if c := &h.check; s.paused(h) {
			c.touched = true
			if c.paused == 0 {
				c.paused = s.now
			}
		}
	}
}

// resume is history.Pauses.End: the next sweep comes soon.
func (s *sim) resume(of string) {
	if !s.store.pauses[of] {
		return
	}
	delete(s.store.pauses, of)
	for _, h := range s.store.hooks {
		if c := &h.check; c.paused > 0 && !s.paused(h) {
			c.paused, c.resumed = 0, s.now
		}
	}
	if !s.is(resumeWakesNobody) {
		s.store.sweptAt, s.store.resumedAt = longAgo, s.now
	}
}

// turnQueued is TurnQueued of the webhooks that have got rows although they were direct, as they were paused.
func (w *worker) turnQueued(rows []*row, f func()) {
	if !slices.ContainsFunc(rows, func(r *row) bool { return r.turns }) {
		f()
		return
	}
	w.query(func() {
		for _, r := range rows {
			r.h.health.Queued = r.h.health.Queued || r.turns
		}
		f()
	})
}

// suspend is SuspendWebhooks of a bot's.
func (s *sim) suspend(bot string) {
	for _, h := range s.store.hooks {
		if h.bot != bot || h.suspended {
			continue
		}
		h.suspended, h.check.suspended, h.check.touched = true, s.now, true
		if h.health.Active {
			h.disabled = s.now
		}
		h.forgetOrder()
		s.removeRows(h, func(*row) bool { return true })
		s.stopWebhook(h)
		if rest := s.now + longestRest; h.ordered && h.resumeAt > rest {
			h.resumeAt = rest
		}
	}
}

// longestRest is the last of history.firstRests.
const longestRest = 3500 * time.Millisecond

// unsuspend is ResumeWebhooks of a bot's.
func (s *sim) unsuspend(bot string) {
	for _, h := range s.store.hooks {
		if h.bot != bot || !h.suspended {
			continue
		}
		h.suspended, h.check.suspended = false, 0
		if h.health.Active {
			h.enabledAt = s.now
		}
		h.forgetOrder()
		h.check.off[typeA], h.check.off[typeB] = s.now, s.now
	}
}

// checkStopped checks that nothing is sent which was read of a webhook since it was paused, or its bot suspended.
func (s *sim) checkStopped(a attempt, in input) {
	for what, since := range map[string]time.Duration{"paused": a.h.check.paused, "suspended": a.h.check.suspended} {
		if since > 0 && in.readAt > since {
			s.fail("%s is sent to webhook %d, which is %s", a.ev.id, a.h.n, what)
		}
	}
}
