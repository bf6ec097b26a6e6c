package hosts

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// longestQueue is how many packets wait on a wire; what comes then is lost.
const longestQueue = 20_000

// wire carries packets from one host to another as its link says.
type wire struct {
	link  Link
	to    *Host
	queue *queue // made by the first Set and kept by the next, so that the order stays
}

// with is the same wire with another link.
func (w *wire) with(link Link) *wire { return &wire{link: link, to: w.to, queue: w.queue} }

// carry delivers a packet, now or later, or loses it. The packet is the caller's again when carry returns.
func (w *wire) carry(packet []byte) {
	link := w.link
	w.queue.carried.Add(uint64(len(packet)))
	switch {
	case link.Cut, link.Loss > 0 && rand.Float64() < link.Loss:
	case link.Delay == 0 && link.Rate == 0 && w.queue.empty():
		w.to.deliver(packet)
	default:
		w.queue.add(append([]byte(nil), packet...), link, w.to)
	}
}

// queue is the packets that are under way on a wire, in order.
type queue struct {
	mu      sync.Mutex
	packets []delayed
	busy    time.Time     // until when a bounded rate takes the wire
	moving  bool          // a goroutine delivers them
	carried atomic.Uint64 // bytes
}

type delayed struct {
	due    time.Time
	packet []byte
}

func (q *queue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.moving
}

func (q *queue) add(packet []byte, link Link, to *Host) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.packets) >= longestQueue {
		return
	}
	due := time.Now()
	if link.Rate > 0 {
		if q.busy.After(due) {
			due = q.busy
		}
		due = due.Add(time.Duration(len(packet)) * time.Second / time.Duration(link.Rate))
		q.busy = due
	}
	q.packets = append(q.packets, delayed{due.Add(link.Delay), packet})
	if !q.moving {
		q.moving = true
		go q.move(to)
	}
}

// move delivers until no packet is left. One that comes later is never delivered earlier, whatever the link has become.
func (q *queue) move(to *Host) {
	for {
		q.mu.Lock()
		if len(q.packets) == 0 {
			q.moving, q.packets = false, nil
			q.mu.Unlock()
			return
		}
		next := q.packets[0]
		q.packets = q.packets[1:]
		q.mu.Unlock()
		time.Sleep(time.Until(next.due)) // the delay
		to.deliver(next.packet)
	}
}
