package faults_test

import (
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

// patient is a webhook with a bot and a receiver of its own, which notes what it has taken.
type patient struct {
	stack    *testkit.Stack
	receiver *testkit.Receiver
	bot      *testkit.Bot
	hook     testkit.Webhook
	path     string

	mu    sync.Mutex
	taken map[string]int // by event id
}

func newPatient(t *testing.T, stack *testkit.Stack, name string) *patient {
	t.Helper()
	p := &patient{stack: stack, receiver: testkit.NewReceiver(t), bot: stack.API().CreateBot(t, name), path: "/" + name, taken: map[string]int{}}
	p.receiver.Answer(p.path, p.take)
	p.hook = p.bot.CreateWebhook(t, p.receiver.URL(p.path), "", post)
	return p
}

// take is how the patient answers when it is well.
func (p *patient) take(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.taken[r.Header.Get("Webhook-Id")]++
	p.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

// well is how often the patient has taken each event.
func (p *patient) well() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := make(map[string]int, len(p.taken))
	for id, times := range p.taken {
		taken[id] = times
	}
	return taken
}

// missing are those of the events that the patient has not taken.
func (p *patient) missing(eventIDs []string) []string {
	taken := p.well()
	return slices.DeleteFunc(slices.Clone(eventIDs), func(id string) bool { return taken[id] > 0 })
}

// arrives waits until the patient has taken the events.
func (p *patient) arrives(t *testing.T, eventIDs ...string) {
	t.Helper()
	arrived := reaches(slack*30*time.Second, len(eventIDs), func() int { return len(eventIDs) - len(p.missing(eventIDs)) })
	require.True(t, arrived, "%s has not got %v", p.path, p.missing(eventIDs))
}

// fallIll begins an outage of a kind; the function returned ends it.
func (p *patient) fallIll(t *testing.T, kind string) (heal func()) {
	t.Helper()
	heal = func() { p.receiver.Answer(p.path, p.take) }
	switch kind {
	case "503":
		p.receiver.Answer(p.path, testkit.Status(http.StatusServiceUnavailable))
	case "late 503":
		p.receiver.Answer(p.path, p.receiver.Slow(300*time.Millisecond, testkit.Status(http.StatusServiceUnavailable)))
	case "reset":
		p.receiver.Answer(p.path, testkit.Reset())
	case "refused":
		p.receiver.Refuse()
		heal = func() {
			if err := p.receiver.Reopen(); err != nil {
				t.Errorf("reopen %s: %v", p.path, err)
			}
		}
	case "hang": // as a process that is stopped: in the end it answers what has not been given up
		again := make(chan struct{})
		p.receiver.Answer(p.path, p.receiver.Until(again, p.take))
		heal = func() {
			p.receiver.Answer(p.path, p.take)
			close(again)
		}
	case "hang, then cut": // as a process that hangs and is then killed and started again
		p.receiver.Answer(p.path, p.receiver.Hang())
		heal = func() {
			p.receiver.Answer(p.path, p.take)
			p.receiver.Refuse()
			if err := p.receiver.Reopen(); err != nil {
				t.Errorf("reopen %s: %v", p.path, err)
			}
		}
	default:
		panic(kind)
	}
	return heal
}
