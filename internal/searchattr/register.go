package searchattr

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/mathub/webhooks/internal/sleep"
)

const (
	// spreadTime is how long all of Temporal's services take to learn of a new attribute: twice the interval at which
	// they read the namespaces again (system.namespaceCacheRefreshInterval, 2 s).
	spreadTime = 4 * time.Second
	// checkEvery is when the attributes are looked at again: an operator may have added or removed them.
	checkEvery = 10 * time.Minute
	// callTimeout bounds one look, and mostDelay the time between two while Temporal is away.
	callTimeout = 15 * time.Second
	mostDelay   = time.Minute
)

// errType says that an attribute of ours is there, as something else.
var errType = errors.New("has another type")

// Keep registers the attributes where they are missing, as often as it takes, and keeps a up to date, until ctx ends.
// Any number of processes may do so at once. Where it is not permitted it says so, once.
func (a *Attributes) Keep(ctx context.Context, log *slog.Logger, c client.Client, namespace string) {
	warned := false
	for delay := time.Second; ; {
		err := a.Register(ctx, c, namespace)
		wait := checkEvery
		switch {
		case err == nil:
			warned, delay = false, time.Second
		case passing(err):
			wait = delay
			delay = min(2*delay, mostDelay)
		case !warned && ctx.Err() == nil:
			warned = true
			log.Warn("search attributes are missing, so workflows cannot be found by webhook, bot and failure; register them as in docs/operations.md", "namespace", namespace, "error", err)
		}
		if !sleep.For(ctx, wait) {
			return
		}
	}
}

// Register registers the attributes where they are missing and returns once they can be used, some seconds after they
// were made. After an error they are not used.
func (a *Attributes) Register(ctx context.Context, c client.Client, namespace string) error {
	missing, err := look(ctx, c, namespace)
	if err == nil && len(missing) > 0 {
		a.known.Store(false)
		if err = add(ctx, c, namespace, missing); err == nil {
			err = awaitRegistered(ctx, c, namespace)
		}
	}
	if passing(err) {
		return err // what was known of them is as true as before
	}
	a.known.Store(err == nil)
	return err
}

// look returns the attributes that the namespace does not have.
func look(ctx context.Context, c client.Client, namespace string) (map[string]enums.IndexedValueType, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	listed, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	if err != nil {
		return nil, fmt.Errorf("list the search attributes: %w", err)
	}
	missing := map[string]enums.IndexedValueType{}
	for name, kind := range wanted {
		switch has, ok := listed.GetCustomAttributes()[name]; {
		case !ok:
			missing[name] = kind
		case has != kind:
			return nil, fmt.Errorf("search attribute %s %w: is %s, must be %s", name, errType, has, kind)
		}
	}
	return missing, nil
}

func add(ctx context.Context, c client.Client, namespace string, missing map[string]enums.IndexedValueType) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	// Of processes that do so at once, Temporal lets one win, and tells others to try again, which the client does.
	_, err := c.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{Namespace: namespace, SearchAttributes: missing})
	var exists *serviceerror.AlreadyExists
	if err != nil && !errors.As(err, &exists) {
		return fmt.Errorf("add search attributes: %w", err)
	}
	return nil
}

// awaitRegistered waits until the attributes are there, and everywhere.
func awaitRegistered(ctx context.Context, c client.Client, namespace string) error {
	ctx, cancel := context.WithTimeout(ctx, spreadTime+callTimeout)
	defer cancel()
	for {
		missing, err := look(ctx, c, namespace)
		if err != nil {
			return err
		}
		wait := spreadTime
		if len(missing) > 0 {
			wait = 100 * time.Millisecond
		}
		if !sleep.For(ctx, wait) {
			return ctx.Err()
		}
		if len(missing) == 0 {
			return nil
		}
	}
}

// passing says whether an error may be gone at another try. A refusal will not be.
func passing(err error) bool {
	var (
		denied    *serviceerror.PermissionDenied
		unknown   *serviceerror.Unimplemented
		invalid   *serviceerror.InvalidArgument
		namespace *serviceerror.NamespaceNotFound
	)
	return err != nil && !errors.Is(err, errType) &&
		!errors.As(err, &denied) && !errors.As(err, &unknown) && !errors.As(err, &invalid) && !errors.As(err, &namespace)
}
