package egress

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// beatEvery is how often the heartbeat shows that this process runs.
	beatEvery = 100 * time.Millisecond
	// beatSlack is how late a beat may be without being called late. Timers and the scheduler of a busy machine are.
	beatSlack = 100 * time.Millisecond
	// maxLost is how much of an exchange this process may not have run, all in all, and a time-out still be the receiver's.
	maxLost = 500 * time.Millisecond
)

// heartbeat measures for how long this process did not run: it was stopped, its machine was paused, suspended or swapped, or
// its goroutines had to wait for a processor. Nobody reports that to a process; a timer that fires late shows it. It costs
// a timer, and an exchange one atomic load.
type heartbeat struct {
	last atomic.Pointer[beat]
}

// beat is one heartbeat.
type beat struct {
	at   instant
	lost time.Duration // by this process, from its start until then
}

// instant is a point in time by two clocks. The monotonic one stands still while some machines are suspended, and the wall
// clock may be set back: time is lost where either says so.
type instant struct{ monotonic, wall time.Duration }

var processBegan = time.Now()

func instantOf(t time.Time) instant {
	return instant{monotonic: t.Sub(processBegan), wall: time.Duration(t.UnixNano())}
}

func (i instant) since(earlier instant) time.Duration {
	return max(i.monotonic-earlier.monotonic, i.wall-earlier.wall)
}

// processHeartbeat is the one of this process. It beats from the first call on.
var processHeartbeat = sync.OnceValue(func() *heartbeat {
	h := newHeartbeat(instantOf(time.Now()))
	time.AfterFunc(beatEvery, h.goOn)
	return h
})

func (h *heartbeat) goOn() {
	h.beat(instantOf(time.Now()))
	time.AfterFunc(beatEvery, h.goOn)
}

func newHeartbeat(now instant) *heartbeat {
	h := &heartbeat{}
	h.last.Store(&beat{at: now})
	return h
}

// beat is called every beatEvery, by one goroutine at a time.
func (h *heartbeat) beat(now instant) {
	h.last.Store(&beat{at: now, lost: h.lost(now)})
}

// lost is how much time this process has lost until now. A beat that is due and did not come yet counts: the first goroutine
// to run after a pause need not be the heartbeat's.
func (h *heartbeat) lost(now instant) time.Duration {
	last := h.last.Load()
	late := now.since(last.at) - beatEvery
	if late <= beatSlack {
		return last.lost
	}
	return last.lost + late
}
