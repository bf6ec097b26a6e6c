package delivery

import "testing"

// BenchmarkAccept accepts an event for one webhook: what each event costs in Postgres before it is sent.
func BenchmarkAccept(b *testing.B) {
	r := newRig(b)
	r.subscribe(b, "https://example.com/hook", "")
	for b.Loop() {
		r.accepted(b)
	}
}
