package app

import (
	"context"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/client"
	temporallog "go.temporal.io/sdk/log"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/settings"
)

// postgres opens the pool of connections, and waits for a schema that this version knows.
type postgres struct{ *process }

// Name implements Service.
func (*postgres) Name() string { return "Postgres" }

// Start implements Service.
func (s *postgres) Start(ctx context.Context) error {
	err := await(ctx, s.log, s.Name(), func() (err error) {
		if s.pool == nil {
			if s.pool, err = db.Open(ctx, s.settings.DatabaseURL); err != nil {
				return err
			}
		}
		return db.CheckSchema(ctx, s.pool)
	})
	if err != nil {
		return err
	}
	db.Measure(s.metrics.Meter(), s.pool)
	s.writes = db.NewWriteCheck(s.pool)
	return nil
}

// Stop implements Service.
func (s *postgres) Stop() { closePool(s.pool) }

func closePool(pool *pgxpool.Pool) {
	if pool != nil {
		pool.Close()
	}
}

// temporalService makes the client, which connects when first used, and keeps the search attributes registered.
type temporalService struct {
	*process
	stop   context.CancelFunc
	keeper sync.WaitGroup
}

// Name implements Service.
func (*temporalService) Name() string { return "Temporal" }

// Start implements Service.
func (s *temporalService) Start(ctx context.Context) error {
	options, err := settings.Temporal()
	if err != nil {
		return err
	}
	options.Logger = temporallog.NewStructuredLogger(s.log)
	options.DataConverter = s.codec.Converter()
	options.MetricsHandler = s.metrics.Temporal()
	if options.Interceptors, err = s.traces.Temporal(); err != nil {
		return err
	}
	// Compressing took 8 % of a worker's CPU time in a profile of a burst, and the network to Temporal is near.
	options.ConnectionOptions.GrpcCompression = &client.GrpcCompressionNone{}
	if s.temporal, err = client.NewLazyClient(options); err != nil {
		return err
	}
	var keep bool
	s.namespace = options.Namespace
	s.attributes, keep = s.settings.Attributes()
	ctx, s.stop = context.WithCancel(ctx)
	if keep {
		s.keeper.Go(func() { s.attributes.Keep(ctx, s.log, s.temporal, s.namespace) })
	}
	return nil
}

// Stop implements Service.
func (s *temporalService) Stop() {
	if s.stop == nil {
		return
	}
	s.stop()
	s.keeper.Wait()
	s.temporal.Close()
}
