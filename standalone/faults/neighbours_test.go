package faults_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

const (
	// besideTwenty is how many times its p99 beside twenty others that answer at once a healthy webhook's p99 from emit to
	// receipt may be beside twenty that hang.
	besideTwenty = 1.5
	// besideThousand is what it may be beside a thousand that hang. With the same events they ask for 20,000 deliveries a
	// second, many times what the machine can do: so it is on time as in any overload.
	besideThousand = 2 * time.Second
)

// hangs is how long an attempt at a receiver that hangs takes.
const hangs = 5 * time.Second

// TestNeighbours feeds a healthy webhook beside twenty others that begin to hang, with 20 events/s each: it gets everything
// within seconds, and only the others are blamed.
func TestNeighbours(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t)
	// Who waits for one that hangs waits for five seconds beyond what the machine takes.
	require.Less(t, n.measure(t, "beside", n.hanging(t, 4, 5)), hangs+slack*n.alone, "a healthy webhook waits for none that hangs")
	n.judged(t)
}

// TestNeighboursCostLittle feeds a healthy webhook alone, beside twenty others that answer at once, and beside twenty that begin
// to hang, in turns. What others cost because they are there is none of the hanging's. Other programs on the machine only ever
// add to a time: so each is judged by its best turn.
func TestNeighboursCostLittle(t *testing.T) {
	if !soak {
		t.Skip("make soak runs it")
	}
	n := newNeighbours(t)
	alone, well, hanging := time.Hour, time.Hour, time.Hour
	for range 2 {
		alone = min(alone, n.measure(t, "alone", nil))
		well = min(well, n.measure(t, "beside 20 that answer", n.answering(t, 4, 5)))
		hanging = min(hanging, n.measure(t, "beside 20 that hang", n.hanging(t, 4, 5)))
	}
	t.Logf("p99 of emit to receipt: %v alone, %v beside 20 that answer, %v beside 20 that hang: %.2f times", alone, well, hanging, float64(hanging)/float64(well))
	require.LessOrEqual(t, float64(hanging), besideTwenty*float64(well))
	n.judged(t)
}

// TestAThousandHangingNeighbours lets 1,000 fresh webhooks of one bot hang at once, all fed by the same events.
func TestAThousandHangingNeighbours(t *testing.T) {
	if !soak {
		t.Skip("make soak runs it")
	}
	n := newNeighbours(t)
	n.measure(t, "alone", nil)
	beside := time.Hour
	for range 2 {
		beside = min(beside, n.measure(t, "beside", n.hanging(t, 1, 1000)))
	}
	require.LessOrEqual(t, beside, besideThousand)
	n.judged(t)
}

type neighbours struct {
	stack *testkit.Stack
	good  *testkit.Receiver
	bot   *testkit.Bot
	turns int           // of measuring
	alone time.Duration // the healthy webhook's p99 before the others were there
}

func newNeighbours(t *testing.T) *neighbours {
	stack := testkit.Start(t, testkit.Options{Env: map[string]string{"MATHUB_MAX_WEBHOOKS_PER_BOT": "1000"}})
	n := &neighbours{stack: stack, good: testkit.NewReceiver(t), bot: stack.API().CreateBot(t, "healthy")}
	n.bot.CreateWebhook(t, n.good.URL("/"), "", post)
	n.alone = n.measure(t, "warming up", nil)
	return n
}

// hanging makes webhooks that never answer, of so many bots.
func (n *neighbours) hanging(t *testing.T, bots, each int) (ids []string) {
	t.Helper()
	return n.others(t, bots, each, func(r *testkit.Receiver, path string) { r.Answer(path, r.Hang()) })
}

// answering makes webhooks that answer at once, of so many bots.
func (n *neighbours) answering(t *testing.T, bots, each int) (ids []string) {
	t.Helper()
	return n.others(t, bots, each, func(*testkit.Receiver, string) {})
}

func (n *neighbours) others(t *testing.T, bots, each int, prepare func(r *testkit.Receiver, path string)) (ids []string) {
	t.Helper()
	receiver := testkit.NewReceiver(t)
	for i := range bots {
		bot := n.stack.API().CreateBot(t, fmt.Sprintf("other %d", i))
		for j := range each {
			path := fmt.Sprintf("/%d/%d", i, j)
			prepare(receiver, path)
			bot.CreateWebhook(t, receiver.URL(path), "", post)
		}
		ids = append(ids, bot.ID)
	}
	return ids
}

// measure emits 20 events/s to the healthy webhook, and others to the bots given, and returns the p99 of the healthy
// one's times from emit to receipt.
func (n *neighbours) measure(t *testing.T, what string, alsoTo []string) time.Duration {
	t.Helper()
	const perSecond = 20
	seconds := either(6, 60)
	n.turns++
	var mu sync.Mutex
	var all sync.WaitGroup
	emitted := map[string]time.Time{}
	tick := time.NewTicker(time.Second / perSecond)
	defer tick.Stop()
	before := len(n.good.Requests("/"))
	for i := range perSecond * seconds {
		<-tick.C
		id := fmt.Sprintf("%d-%d", n.turns, i)
		all.Go(func() {
			mu.Lock()
			emitted[id] = time.Now()
			mu.Unlock()
			n.emit(t, testkit.Event{ID: id, Type: post, BotIDs: []string{n.bot.ID}})
		})
		if len(alsoTo) > 0 {
			all.Go(func() { n.emit(t, testkit.Event{ID: id + "-beside", Type: post, BotIDs: alsoTo}) })
		}
	}
	all.Wait()
	var took []time.Duration
	worst := make([]time.Duration, seconds) // of each second
	for i, r := range n.good.Await(t, "/", before+perSecond*seconds)[before:] {
		took = append(took, r.At.Sub(emitted[r.EventID()]))
		worst[i/perSecond] = max(worst[i/perSecond], took[i])
	}
	var line strings.Builder
	for _, d := range worst {
		fmt.Fprintf(&line, " %d", d.Milliseconds())
	}
	slices.Sort(took)
	p50, p99 := took[len(took)/2], took[len(took)*99/100]
	t.Logf("%s: p50 %v, p99 %v; the worst of each second, in ms:%s", what, p50, p99, line.String())
	return p99
}

func (n *neighbours) emit(t *testing.T, event testkit.Event) {
	if err := emitPatiently(t.Context(), n.stack.API(), event); err != nil {
		t.Errorf("emit %s: %v", event.ID, err)
	}
}

// judged checks that only what the receivers did was held against them.
func (n *neighbours) judged(t *testing.T) {
	t.Helper()
	var unfair int
	require.NoError(t, n.stack.Database(t).QueryRow(t.Context(), `
		SELECT count(*) FROM deliveries d JOIN webhooks w ON w.id = d.webhook_id
		WHERE w.bot_id <> $1 AND NOT d.success AND NOT (d.error = 'timeout' AND d.duration_ms BETWEEN 4500 AND $2)`, n.bot.ID, either(8000, 5500)).Scan(&unfair))
	require.Zero(t, unfair, "a wait for a turn never counts as the receiver's")
	var failed int
	require.NoError(t, n.stack.Database(t).QueryRow(t.Context(),
		"SELECT count(*) FROM deliveries d JOIN webhooks w ON w.id = d.webhook_id WHERE w.bot_id = $1 AND NOT d.success", n.bot.ID).Scan(&failed))
	require.Zero(t, failed)
	counted(t, n.stack)
}
