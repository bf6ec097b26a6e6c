package egress

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/mathub/webhooks/internal/telemetry/instrument"
)

// measured registers the client's metrics on m.
func (c *Client) measured(m metric.Meter) {
	c.blocked = instrument.Counter(m, "mathub_egress_blocked", "Exchanges refused before sending, by reason: address (not public) or scheme (not https).")
	if own := c.clientCertificate; own != nil {
		expiry := instrument.Gauge(m, "mathub_egress_client_certificate_expiry_timestamp_seconds", "When the client certificate for receivers expires, as a Unix time.")
		instrument.Observe(m, func(_ context.Context, o metric.Observer) { o.ObserveInt64(expiry, own.NotAfter().Unix()) }, expiry)
	}
	underWay := instrument.Gauge(m, "mathub_egress_exchanges", "HTTP exchanges with receivers in flight.")
	limit := instrument.Gauge(m, "mathub_egress_exchanges_limit", "The most exchanges in flight at once. More wait.")
	access := instrument.Gauge(m, "mathub_outbound_access", "0 while the DNS resolver, the network or the proxy of this process is known to be down, else 1.")
	instrument.Observe(m, func(ctx context.Context, o metric.Observer) {
		// What is not known to work is checked for the next reader; this one does not wait.
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		o.ObserveInt64(access, 1)
		if known := c.OutboundAccess(ctx); known.DNS == AccessFailed || known.Network == AccessFailed {
			o.ObserveInt64(access, 0)
		}
		o.ObserveInt64(underWay, int64(c.places.inFlight()))
		o.ObserveInt64(limit, int64(c.places.most))
	}, underWay, limit, access)
}

// countBlocked counts a refusal by the guard.
func (c *Client) countBlocked(ctx context.Context, reason string) {
	c.blocked.Add(ctx, 1, metric.WithAttributes(attribute.String("reason", reason)))
}
