package cli

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/client"
	temporallog "go.temporal.io/sdk/log"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/internal/codec"
	"github.com/mathub/webhooks/internal/ops"
	"github.com/mathub/webhooks/internal/settings"
)

// Resume goes on, after a restore, with the events that were being delivered.
type Resume struct {
	settings.Database
	Since  moment `required:"" help:"From when on events were accepted that may not be delivered: a time in RFC 3339, or how long ago, such as 2h. Name a time before the backup."`
	DryRun bool   `help:"Count only."`
	JSON   bool   `help:"Print JSON."`

	CodecKeyset string `env:"MATHUB_CODEC_KEYSET" help:"The keys that encrypt what Temporal keeps of events."`
}

type resumed struct {
	Unfinished int `json:"unfinished"`
	Running    int `json:"running"`
	Started    int `json:"started"`
}

// Run implements kong's interface of commands.
func (c *Resume) Run(ctx context.Context, program Program) error {
	options, err := program.TemporalOptions()
	if err != nil {
		return err
	}
	sealed, err := codec.Parse(c.CodecKeyset)
	if err != nil {
		return err
	}
	options.DataConverter = sealed.Converter()
	options.Logger = temporallog.NewStructuredLogger(slog.New(slog.DiscardHandler)) // errors are returned
	temporal, err := client.DialContext(ctx, options)
	if err != nil {
		return fmt.Errorf("Temporal at %s: %w", options.HostPort, err) //nolint:staticcheck // a name
	}
	defer temporal.Close()
	return withPool(ctx, c.Database, func(ctx context.Context, pool *pgxpool.Pool) error {
		r := ops.Resume{Pool: pool, Temporal: temporal, Options: []emit.Option{emit.ConvertedBy(options.DataConverter)}, DryRun: c.DryRun}
		n, err := r.Run(ctx, c.Since.Time)
		if err != nil {
			return fmt.Errorf("%w; %d events were started; run it again", err, n.Started)
		}
		return printed(c.JSON, resumed(n), fmt.Sprintf("%d events are not delivered to all of their webhooks: %d are being delivered, %d were started", n.Unfinished, n.Running, n.Started))
	})
}
