// Package simulation runs the core's rules through many schedules of trouble, on a clock of its own: no sleeping, no
// goroutine, no database. A schedule is drawn from a seed, so that one that fails can be run again.
//
// What is pure in the product is used as it is: admission.Windows, history.Health, webhook.Schedule, delivery.NextStep and
// NextWindow. What is not is modelled step by step: each file names what it models. Between any two steps of a process
// the process may crash; a transaction is one step.
package simulation

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// step is something that happens at a time: in a process, unless that has crashed since, or outside of all.
type step struct {
	at    time.Duration
	order int
	w     *worker
	epoch int
	run   func()
}

func (s step) before(other step) bool {
	return s.at < other.at || s.at == other.at && s.order < other.order
}

// clock orders the steps. It is a heap by hand, as container/heap would box each step.
type clock struct {
	now   time.Duration
	steps []step
	added int
}

func (c *clock) add(s step) {
	c.added++
	s.order = c.added
	c.steps = append(c.steps, s)
	for i := len(c.steps) - 1; i > 0; {
		parent := (i - 1) / 2
		if !c.steps[i].before(c.steps[parent]) {
			return
		}
		c.steps[i], c.steps[parent] = c.steps[parent], c.steps[i]
		i = parent
	}
}

func (c *clock) next() step {
	first, last := c.steps[0], len(c.steps)-1
	c.steps[0], c.steps[last] = c.steps[last], step{}
	c.steps = c.steps[:last]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if c.steps[child].before(c.steps[least]) {
				least = child
			}
		}
		if least == i {
			break
		}
		c.steps[i], c.steps[least] = c.steps[least], c.steps[i]
		i = least
	}
	c.now = first.at
	return first
}

// sim is one run of a schedule.
type sim struct {
	clock
	plan   plan
	broken rule // the rules that are taken out
	rnd    *rand.Rand
	done   int // steps so far: an order of all that happens

	store   store
	engine  engine
	workers []*worker
	checks  checks

	inWorkers int // steps made in workers, by which crashes are timed
	crashes   []int
	emitting  int // what is still to come of the schedule

	verbose bool
	log     []string
}

// outside has f done after d, outside of all processes that may crash: by a receiver, Temporal's server or the API.
func (s *sim) outside(d time.Duration, f func()) { s.add(step{at: s.now + d, run: f}) }

// between draws a duration.
func (s *sim) between(least, most time.Duration) time.Duration {
	if most <= least {
		return least
	}
	return least + time.Duration(s.rnd.Int64N(int64(most-least)))
}

func (s *sim) chance(p float64) bool { return p > 0 && s.rnd.Float64() < p }

func (s *sim) is(r rule) bool { return s.broken&r != 0 }

// logf adds a line to the log, of a run that is asked to keep one.
func (s *sim) logf(format string, args ...any) {
	if s.verbose {
		s.log = append(s.log, fmt.Sprintf("%10.4fs  ", s.now.Seconds())+fmt.Sprintf(format, args...))
	}
}

// most bounds the steps of a run: what goes on for longer turns in a circle.
const most = 500_000

// run goes on until all is at rest, or a check fails.
func (s *sim) run() {
	for len(s.steps) > 0 && s.checks.violation == "" {
		st := s.next()
		if st.w != nil && (st.epoch != st.w.epoch || s.crashesNow(st.w)) {
			continue
		}
		s.done++
		if s.done > most {
			s.fail("the run does not come to rest")
			return
		}
		st.run()
	}
}

// crashesNow crashes a process before its next step, when the schedule says so.
func (s *sim) crashesNow(w *worker) bool {
	if s.resting() {
		return false
	}
	s.inWorkers++
	if len(s.crashes) == 0 || s.inWorkers < s.crashes[0] {
		return false
	}
	s.crashes = s.crashes[1:]
	w.crash()
	return true
}

// resting: there is no more trouble from now on.
func (s *sim) resting() bool { return s.now >= s.plan.end }
