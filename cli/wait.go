package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/internal/sleep"
)

// await asks once a second how far a work has come, from the state now on, until it has ended, and writes to stderr what is new.
// While the API is away or asks to wait, the work goes on, and so does await.
func await[T any](ctx context.Context, now *mathub.Response[T], hasEnded func(T) bool, progress func(T) string, get func(context.Context) (*mathub.Response[T], error)) (*mathub.Response[T], error) {
	for last := ""; !hasEnded(now.Value); {
		if said := progress(now.Value); said != last {
			last = said
			fmt.Fprintln(os.Stderr, said)
		}
		if !sleep.For(ctx, time.Second) {
			return now, ctx.Err()
		}
		next, err := get(ctx)
		refused := new(mathub.Problem)
		switch {
		case err == nil:
			now = next
		case errors.As(err, &refused) && !refused.Temporary():
			return now, err
		}
	}
	return now, nil
}
