package delivery

import (
	"log/slog"
	"testing"
	"time"

	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/internal/telemetry"
	"github.com/mathub/webhooks/webhook"
)

// BenchmarkMeasuringADelivery is what metrics add to an event's successful delivery, but for its share of a batch.
func BenchmarkMeasuringADelivery(b *testing.B) {
	m, err := telemetry.NewMetrics("bench", slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	x := newMetrics(m.Meter())
	b.ReportAllocs()
	for b.Loop() {
		x.accepted(b.Context(), webhook.PostCreated)
		x.delivery(b.Context(), webhook.PostCreated, egress.Response{StatusCode: 200, Duration: time.Millisecond}, time.Millisecond)
		x.ended(b.Context(), Result{Status: Delivered}, nil)
	}
}
