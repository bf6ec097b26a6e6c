package admission

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestWindows makes random offers, ends and withdrawals, and holds what the windows do against the rules, told naively.
func TestWindows(t *testing.T) {
	ids := make([]uuid.UUID, 6)
	for i := range ids {
		ids[i] = uuid.New()
	}
	botOf := func(webhook int) string { return []string{"a", "b"}[webhook%2] }
	rapid.Check(t, func(t *rapid.T) {
		w := New()
		type entry struct {
			ticket  *Ticket
			webhook int
		}
		var inFlight, waiting []entry
		size := map[int]int{}
		settle := func(granted []*Ticket) {
			for _, g := range granted {
				for i, e := range waiting {
					if e.ticket == g {
						// In turn: nobody who waits for the same webhook came before.
						for _, earlier := range waiting[:i] {
							require.NotEqual(t, e.webhook, earlier.webhook)
						}
						waiting = append(waiting[:i:i], waiting[i+1:]...)
						inFlight = append(inFlight, e)
						break
					}
				}
			}
		}
		count := func(entries []entry, match func(entry) bool) (n int) {
			for _, e := range entries {
				if match(e) {
					n++
				}
			}
			return n
		}
		of := func(webhook int) func(entry) bool { return func(e entry) bool { return e.webhook == webhook } }
		t.Repeat(map[string]func(*rapid.T){
			"offer": func(t *rapid.T) {
				for range rapid.IntRange(1, 60).Draw(t, "many") {
					h := rapid.IntRange(0, len(ids)-1).Draw(t, "webhook")
					e := entry{w.Offer(ids[h], botOf(h)), h}
					if e.ticket.Granted() {
						inFlight = append(inFlight, e)
					} else {
						waiting = append(waiting, e)
					}
				}
			},
			"end": func(t *rapid.T) {
				for range rapid.IntRange(1, 60).Draw(t, "many") {
					if len(inFlight) == 0 {
						return
					}
					i := rapid.IntRange(0, len(inFlight)-1).Draw(t, "which")
					e := inFlight[i]
					o := rapid.SampledFrom([]Outcome{NotMade, Taken, Taken, Taken, Failed}).Draw(t, "outcome")
					n := count(inFlight, of(e.webhook))
					switch {
					case o == Failed:
						size[e.webhook] = FirstWindow
					case o == Taken && n >= size[e.webhook]:
						size[e.webhook] = min(size[e.webhook]+1, LargestWindow)
					}
					inFlight = append(inFlight[:i:i], inFlight[i+1:]...)
					settle(w.Ended(e.ticket, o))
				}
			},
			"withdraw": func(t *rapid.T) {
				if len(waiting) == 0 {
					return
				}
				i := rapid.IntRange(0, len(waiting)-1).Draw(t, "which")
				require.True(t, w.Withdraw(waiting[i].ticket))
				require.False(t, w.Withdraw(waiting[i].ticket))
				waiting = append(waiting[:i:i], waiting[i+1:]...)
			},
			"leave": func(t *rapid.T) {
				h := rapid.IntRange(0, len(ids)-1).Draw(t, "webhook")
				left := w.Leave(ids[h])
				require.Len(t, left, count(waiting, of(h)))
				var rest []entry
				for _, e := range waiting {
					if e.webhook != h {
						rest = append(rest, e)
					}
				}
				waiting = rest
			},
			"": func(t *rapid.T) {
				shares := map[string]int{}
				for h := range ids {
					n := count(inFlight, of(h))
					shares[botOf(h)] += n
					if n == 0 && count(waiting, of(h)) == 0 {
						delete(size, h)
					} else if size[h] == 0 {
						size[h] = FirstWindow
					}
					require.LessOrEqual(t, n, LargestWindow)
				}
				for h := range ids {
					require.LessOrEqual(t, shares[botOf(h)], BotShare)
					if count(waiting, of(h)) > 0 {
						// Nobody waits without need.
						require.True(t, count(inFlight, of(h)) >= size[h] || shares[botOf(h)] == BotShare, "webhook %d waits for nothing", h)
					}
				}
				a, b := w.Load()
				require.Equal(t, []int{len(inFlight), len(waiting)}, []int{a, b})
				require.Len(t, w.webhooks, len(size), "what is idle is forgotten")
				if len(inFlight)+len(waiting) == 0 {
					require.Empty(t, w.bots)
				}
			},
		})
	})
}

func TestWindows_GrowWithSuccess(t *testing.T) {
	w, id := New(), uuid.New()
	var granted []*Ticket
	for range 1000 {
		if ticket := w.Offer(id, "bot"); ticket.Granted() {
			granted = append(granted, ticket)
		}
	}
	require.Len(t, granted, FirstWindow)
	for range 2 * LargestWindow {
		granted = append(granted[1:], w.Ended(granted[0], Taken)...)
	}
	require.Len(t, granted, LargestWindow)
	for range LargestWindow - FirstWindow {
		require.Empty(t, w.Ended(granted[0], Failed))
		granted = granted[1:]
	}
	require.Len(t, w.Ended(granted[0], Failed), 1, "after a failure the window is as at first")
}

// TestWindows_BotShareIsServedInTurn: a webhook with a thousand waiting does not keep its bot's others from their places.
func TestWindows_BotShareIsServedInTurn(t *testing.T) {
	w := New()
	var busy []*Ticket
	for range BotShare / FirstWindow {
		id := uuid.New()
		for range FirstWindow {
			busy = append(busy, w.Offer(id, "bot"))
		}
	}
	loud, quiet := uuid.New(), uuid.New()
	for range 1000 {
		require.False(t, w.Offer(loud, "bot").Granted())
	}
	other := w.Offer(quiet, "bot")
	require.False(t, other.Granted())
	require.Len(t, w.Ended(busy[0], Taken), 1)
	require.Equal(t, []*Ticket{other}, w.Ended(busy[1], Taken))
	require.True(t, w.Offer(uuid.New(), "another bot").Granted())
}

// TestTicket_Progress: a hanging webhook makes none, whatever its bot's others do; a webhook that waits for its bot's share
// makes progress with theirs.
func TestTicket_Progress(t *testing.T) {
	w, hanging, well := New(), uuid.New(), uuid.New()
	for range FirstWindow {
		w.Offer(hanging, "bot")
	}
	waits := w.Offer(hanging, "bot")
	wait := waits.Wait()
	for range 10 {
		w.Ended(w.Offer(well, "bot"), Taken)
	}
	require.Zero(t, wait.Progress())

	for range BotShare/FirstWindow - 1 {
		id := uuid.New()
		for range FirstWindow {
			w.Offer(id, "bot")
		}
	}
	busy := w.Offer(uuid.New(), "bot")
	require.False(t, busy.Granted(), "the share is used up")
	other := w.Offer(uuid.New(), "bot")
	wait = other.Wait()
	require.True(t, w.Withdraw(waits))
	for _, x := range w.webhooks {
		if x.id != hanging && x.inFlight == FirstWindow {
			w.Ended(&Ticket{window: x, granted: true}, Taken)
			break
		}
	}
	require.Positive(t, wait.Progress())
}
