package history

import (
	"maps"
	"math/bits"
	"slices"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/egress"
)

// Tally is what some deliveries come to. Its JSON is what the table delivery_stats holds.
type Tally struct {
	Delivered int `json:"delivered,omitempty"`
	Failed    int `json:"failed,omitempty"`
	// Verified and NotVerified are those of them that were verifications, which say nothing of how deliveries fare.
	Verified    int `json:"verified,omitempty"`
	NotVerified int `json:"notVerified,omitempty"`
	// ByError counts failures by the class of their error, one of egress.Classes.
	ByError map[string]int `json:"byError,omitempty"`
	// ByType counts deliveries by the type of their event.
	ByType map[string]int `json:"byType,omitempty"`
	// Durations counts deliveries by how long they took: from the key, in ms, to the next of durationBounds.
	Durations map[int32]int `json:"durations,omitempty"`
}

// durationBounds are the least durations, in ms, of the classes in which durations are counted: each ms up to 16, and from
// there on eight classes until the duration has doubled. A percentile is exact to an eighth of itself.
var durationBounds = func() (bounds []int32) {
	const exact, until = 16, 1 << 16
	for ms := int32(0); ms < until; ms += max(1, int32(1)<<bits.Len32(uint32(ms))/exact) {
		bounds = append(bounds, ms)
	}
	return bounds
}()

// Total is how many deliveries are counted.
func (t *Tally) Total() int { return t.Delivered + t.Failed }

// Percentile is about how many ms at most that fraction of the deliveries took: 0 of none.
func (t *Tally) Percentile(fraction float64) int {
	n := 0
	for _, of := range t.Durations {
		n += of
	}
	rank := max(fraction*float64(n), 1)
	for _, least := range slices.Sorted(maps.Keys(t.Durations)) {
		of := t.Durations[least]
		if rank > float64(of) {
			rank -= float64(of)
			continue
		}
		width := 1
		if i, found := slices.BinarySearch(durationBounds, least); found && i+1 < len(durationBounds) {
			width = int(durationBounds[i+1] - least)
		}
		return int(least) + int((rank-0.5)/float64(of)*float64(width)) // as if they lay evenly within the class
	}
	return 0
}

// Add adds what other deliveries come to.
func (t *Tally) Add(other *Tally) {
	t.Delivered += other.Delivered
	t.Failed += other.Failed
	t.Verified += other.Verified
	t.NotVerified += other.NotVerified
	addCounts(&t.ByError, other.ByError)
	addCounts(&t.ByType, other.ByType)
	addCounts(&t.Durations, other.Durations)
}

func addCounts[K comparable](to *map[K]int, from map[K]int) {
	if *to == nil && len(from) > 0 {
		*to = make(map[K]int, len(from))
	}
	for key, n := range from {
		(*to)[key] += n
	}
}

// tallyOf is what a group of deliveries comes to.
func tallyOf(row db.TallyDeliveriesRow) *Tally {
	n := int(row.Deliveries)
	t := &Tally{Durations: map[int32]int{row.LeastMs: n}}
	if row.EventType != "" {
		t.ByType = map[string]int{row.EventType: n}
	}
	verifications := 0
	if row.IsVerification {
		verifications = n
	}
	if row.Success {
		t.Delivered, t.Verified = n, verifications
		return t
	}
	t.Failed, t.NotVerified = n, verifications
	class := egress.Response{Error: row.Error, StatusCode: int(row.StatusCode)}.Class()
	if class == "" {
		class = "other"
	}
	t.ByError = map[string]int{class: n}
	return t
}
