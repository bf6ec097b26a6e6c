package history

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/db/dbtest"
)

func BenchmarkRecorder(b *testing.B) {
	pool := dbtest.New(b)
	for _, webhooks := range []int{1, 100} {
		b.Run(fmt.Sprintf("webhooks=%d", webhooks), func(b *testing.B) {
			r, _ := newTestRecorder(b, pool)
			ids := make([]uuid.UUID, webhooks)
			for i := range ids {
				ids[i] = addWebhook(b, pool)
			}
			b.SetParallelism(64)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := r.Record(context.Background(), outcome(ids[rand.IntN(len(ids))], true)); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
