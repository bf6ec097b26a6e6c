package portal

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/subscriptions"
)

func TestExplain(t *testing.T) {
	t.Parallel()
	planned := &subscriptions.NextAttempt{Number: 3}
	for name, c := range map[string]struct {
		status   int32
		err      string
		trigger  string
		next     *subscriptions.NextAttempt
		what, do string
	}{
		"taken":           {204, "", "event", nil, "Delivered: the receiver answered 204 within 12 ms.", ""},
		"its own fault":   {503, "HTTP 503", "event", planned, "Failed: the receiver answered with an error of its own (HTTP 503). Attempt 3 is planned.", "log"},
		"a redirect":      {301, "HTTP 301", "retry", nil, "Failed: the receiver redirects, which is not followed (HTTP 301). No further attempt of this event is planned.", "URL"},
		"the signature":   {401, "HTTP 401", "test", nil, "Failed: the receiver refused us (HTTP 401). Tests are not attempted again.", "secret"},
		"too large":       {413, "HTTP 413", "event", nil, "the body was too large", "256 KiB"},
		"slow":            {0, "timeout", "event", planned, "did not answer within 5 seconds (timeout)", "queue of your own"},
		"slow, in part":   {200, "timeout", "event", planned, "did not answer within 5 seconds (timeout)", "queue of your own"},
		"an unknown name": {0, "dns: no such host", "event", planned, "could not be looked up (dns: no such host)", "DNS"},
		"old certificate": {0, "tls: certificate expired", "event", planned, "certificate has expired", "Renew"},
		"another of TLS":  {0, "tls: refused by the receiver: no renegotiation", "event", planned, "no TLS connection came about (tls: refused", "certificate"},
		"blocked":         {0, "blocked: address not allowed", "event", planned, "not public", "public"},
		"no nonce":        {200, "the answer is not the nonce", "verify", nil, "not with the nonce", "nonce"},
		"unheard of":      {0, "something new", "event", planned, "could not be reached, or not be understood (something new)", "log"},
	} {
		row := db.GetDeliveriesRow{Success: c.err == "", DurationMs: 12, Trigger: db.DeliveryTrigger(c.trigger)}
		if c.status != 0 {
			row.StatusCode = &c.status
		}
		if c.err != "" {
			row.Error = &c.err
		}
		what, do := explain(row, c.next)
		require.Contains(t, what, c.what, name)
		require.Contains(t, do, c.do, name)
	}
}
