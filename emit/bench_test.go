package emit_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"go.temporal.io/sdk/client"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/webhook"
)

// instantEngine starts a workflow at once.
type instantEngine struct{ client.Client }

func (instantEngine) ExecuteWorkflow(context.Context, client.StartWorkflowOptions, any, ...any) (client.WorkflowRun, error) {
	return nil, nil
}

// BenchmarkIngest is what the API does with the bytes of a call, but for Postgres and Temporal. Events that were read are
// valid; "checked again" is what it would cost to find that out another time.
func BenchmarkIngest(b *testing.B) {
	for _, events := range []int{1, 100} {
		all := make([]string, events)
		for i := range all {
			all[i] = fmt.Sprintf(`{"id":"event-%d","event":"post.created","data":{"postId":"p%d","threadId":"t1","body":%q,"authorId":"u1"}}`, i, i, strings.Repeat("All work and no play. ", 40))
		}
		raw := []byte(`{"events":[` + strings.Join(all, ",") + `]}`)
		for name, ingest := range map[string]func(batcher *emit.Batcher, read webhook.Batch) error{
			"as read": func(batcher *emit.Batcher, read webhook.Batch) error {
				_, err := batcher.Batch(b.Context(), read)
				return err
			},
			"checked again": func(batcher *emit.Batcher, read webhook.Batch) error {
				_, err := batcher.Events(b.Context(), read.Events())
				return err
			},
		} {
			b.Run(fmt.Sprintf("%d events %s", events, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					read, err := webhook.ReadBatch(raw)
					if err == nil {
						err = ingest(emit.NewBatcher(instantEngine{}, emit.BatcherOptions{}), read)
					}
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
