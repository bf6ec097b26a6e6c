package linearizable_test

import (
	"fmt"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"

	"github.com/mathub/webhooks/internal/history"
)

// The contract's numbers, written down here again: the model shares no code with what it checks.
const (
	disablesAt      = 10
	mostEarly       = 5
	mostDeliveries  = 64 // of a schedule: a bit each
	reasonFailures  = "failures"
	recoveryRunning = "running"
	recoveryEnded   = "ended"
)

// view is what a webhook shows.
type view struct {
	Active, Suspended, Queued         bool
	Count, Early, Generation, Run     int32
	Reason, Note, URL, Events, Secret string
	URLVersion                        int32
	DisabledBy                        uuid.UUID
}

// target is the part of it that an attempt is prepared from.
func (v view) target() view {
	return view{Active: v.Active, Suspended: v.Suspended, Queued: v.Queued, Count: v.Count, Generation: v.Generation, Run: v.Run, URLVersion: v.URLVersion}
}

// state is a webhook as the model has it.
type state struct {
	Exists bool
	view
	Recovery string // of the latest: "", recoveryRunning or recoveryEnded
	// Recorded and Retried have a bit for each delivery: it is in the history, and another attempt is planned.
	Recorded, Retried uint64
}

type kind string

const (
	get            kind = "get"
	prepare        kind = "prepare" // reads what an attempt needs
	record         kind = "record"
	update         kind = "update"
	remove         kind = "delete"
	suspend        kind = "suspend"
	resume         kind = "resume"
	recoverMissed  kind = "recover"
	cancelRecovery kind = "cancel recovery"
)

// operation is what is asked of a webhook.
type operation struct {
	Kind    kind
	Attempt attempt // record
	Change  change  // update
}

// attempt is a finished one.
type attempt struct {
	Number          int // of the delivery, in its schedule: recorded again, it has the same
	Delivery        uuid.UUID
	Success         bool
	Retried         bool // a failure is followed by a retry
	Generation, Run int32
	Event           string
	InQueue         bool // the attempt was the queue's
}

// change is a PATCH. Empty fields are not in it.
type change struct {
	By                  string // "owner", or "operator"
	Enable, Disable     bool
	Note                string // an operator's, of Disable
	URL, Events, Secret string
}

// result is what an operation is answered.
type result struct {
	Found    bool
	View     view
	Recorded history.Recorded
	Recovery string // what a recovery is answered
}

func (op operation) String() string {
	switch op.Kind {
	case record:
		return fmt.Sprintf("record %+v", op.Attempt)
	case update:
		return fmt.Sprintf("update %+v", op.Change)
	}
	return string(op.Kind)
}

func (r result) String() string {
	switch {
	case r.View != view{}:
		return fmt.Sprintf("%+v", r.View)
	case r.Recorded != history.Recorded{}:
		return fmt.Sprintf("%+v", r.Recorded)
	case r.Recovery != "":
		return r.Recovery
	case r.Found:
		return "done"
	}
	return "not found"
}

// apply is the whole model: what an operation is answered, and what becomes of the webhook.
func (s state) apply(op operation) (result, state) {
	switch op.Kind {
	case get:
		return s.shown(s.view), s
	case prepare:
		return s.shown(s.target()), s
	case record:
		return s.record(op.Attempt)
	case update:
		if s.Exists {
			s = s.change(op.Change)
		}
		return s.shown(s.view), s
	case remove:
		return result{Found: s.Exists}, state{view: view{Suspended: s.Suspended}, Recorded: s.Recorded}
	case suspend:
		s.Suspended = true
		return result{Found: true}, s.cleared()
	case resume:
		s.Suspended = false
		return result{Found: true}, s
	case recoverMissed:
		return s.recover()
	case cancelRecovery:
		return result{Found: s.Recovery != ""}, s.stopped()
	}
	panic(op.Kind)
}

func (s state) shown(v view) result {
	if !s.Exists {
		return result{}
	}
	return result{Found: true, View: v}
}

func (s state) record(a attempt) (result, state) {
	if !s.Exists {
		return result{Recorded: history.Recorded{Gone: true}}, s
	}
	own := uint64(1) << a.Number
	isNew := s.Recorded&own == 0
	s.Recorded |= own
	switch {
	case !isNew:
	case a.Success:
		s.Count, s.Early = 0, 0
	case a.Generation == s.Generation:
		s = s.fail(a)
	}
	if isNew && !a.Success && a.Retried && s.Active && !s.Suspended {
		s.Retried |= own
	}
	return result{Recorded: history.Recorded{
		Active: s.Active, Suspended: s.Suspended, FailureCount: int(s.Count),
		Planned: !a.Success && s.Retried&own != 0,
	}}, s
}

// fail counts a failure of the present generation.
func (s state) fail(a attempt) state {
	s.Queued = true
	switch {
	case s.Count == 0:
		s.Run++
		s.Count, s.Early = 1, 1
	case a.Run == s.Run:
		s.Count++
	case s.Early < mostEarly:
		s.Count++
		s.Early++
	}
	if s.Active && s.Count >= disablesAt {
		s.Active, s.Reason, s.DisabledBy = false, reasonFailures, a.Delivery
		s = s.cleared()
	}
	return s
}

func (s state) change(c change) state {
	moved := c.URL != "" && c.URL != s.URL
	if moved {
		s.URL = c.URL
		s.URLVersion++
	}
	if c.Enable || moved && s.Active {
		s.Generation++
	}
	if c.Events != "" {
		s.Events = c.Events
	}
	if c.Secret != "" {
		s.Secret = c.Secret
	}
	switch {
	case c.Enable:
		s.Active, s.Count, s.Early, s.Reason, s.Note, s.DisabledBy = true, 0, 0, "", "", uuid.Nil
	case c.Disable && s.Active:
		s.Active, s.Reason, s.Note = false, c.By, c.Note
		s = s.cleared()
	case c.Disable && c.Note != "":
		s.Note = c.Note
	}
	return s
}

func (s state) recover() (result, state) {
	switch {
	case !s.Exists:
		return result{Recovery: "not found"}, s
	case !s.Active || s.Suspended:
		return result{Recovery: "not served"}, s
	case s.Recovery == recoveryRunning:
		return result{Recovery: "running already"}, s
	}
	s.Recovery = recoveryRunning
	return result{Recovery: "started"}, s
}

// cleared is stopped, with nothing planned.
func (s state) cleared() state {
	s.Retried = 0
	return s.stopped()
}

// stopped ends the recovery that runs.
func (s state) stopped() state {
	if s.Recovery == recoveryRunning {
		s.Recovery = recoveryEnded
	}
	return s
}

// model is of a webhook that begins as given.
func model(first state) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return first },
		Step: func(before, input, output any) (bool, any) {
			want, after := before.(state).apply(input.(operation))
			got := output.(result)
			if op := input.(operation); op.Kind == record && op.Attempt.Success {
				want.Recorded.Suspended, got.Recorded.Suspended = false, false // nobody asks for it, as nothing is planned
			}
			return want == got, after
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprintf("%v: %v", input, output) },
		DescribeState:     func(s any) string { return fmt.Sprintf("%+v", s) },
	}
}
