package emit

import (
	"hash/maphash"
	"slices"

	"github.com/mathub/webhooks/webhook"
)

// content is what an event says, in short: two that differ have two, nearly always. It is of use in this process alone.
type content struct {
	digest    uint64 // of all but the timestamp
	timestamp string // in the envelope's form
}

var contentSeed = maphash.MakeSeed()

// contentOf is that of a complete event.
func contentOf(e webhook.Event) content {
	c := content{timestamp: e.Timestamp}
	e.Timestamp = "2000-01-01T00:00:00.000Z" // any, so that it makes no difference
	var h maphash.Hash
	h.SetSeed(contentSeed)
	_, _ = h.Write(e.Body()) // it never fails
	for _, id := range slices.Sorted(slices.Values(e.BotIDs)) {
		_, _ = h.WriteString(id + ",")
	}
	c.digest = h.Sum64()
	return c
}

// conflicts says whether an event says something else. One without a timestamp says nothing about that, and with what is not
// known nothing conflicts.
func (c content) conflicts(e webhook.Event) bool {
	if c == (content{}) {
		return false
	}
	if e.Timestamp == "" {
		e.Timestamp = c.timestamp
	}
	t, _ := webhook.ParseTime(c.timestamp)
	return contentOf(e.Complete(t)) != c
}
