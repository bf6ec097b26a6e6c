package history

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db/dbtest"
)

func TestReader_PlanIncident(t *testing.T) {
	t.Parallel()
	o := newOutage(t)
	for i := range 3 {
		o.disable(t, fmt.Sprintf("bot-%d", i), "timeout", "timeout", 10*time.Minute)
	}
	o.disable(t, "bot-0", "dns", "dns: no such host", 10*time.Minute)
	o.disable(t, "bot-0", "dns", "dns: timeout", 10*time.Minute)
	gone := o.disable(t, "bot-1", "http_5xx", "HTTP 503", 10*time.Minute)
	execute(t, o.pool, "DELETE FROM deliveries WHERE webhook_id = $1", gone)
	// What it is not about: disabled before, by others, or of a suspended bot.
	o.disable(t, "bot-0", "timeout", "timeout", 2*time.Hour)
	for _, reason := range []string{"owner", "operator"} {
		execute(t, o.pool, "UPDATE webhooks SET disabled_reason = $2, disabled_by = NULL WHERE id = $1", o.disable(t, "bot-0", "timeout", "timeout", 10*time.Minute), reason)
	}
	execute(t, o.pool, "UPDATE webhooks SET suspended = true WHERE id = $1", o.disable(t, "bot-9", "timeout", "timeout", 10*time.Minute))
	addWebhookOf(t, o.pool, "bot-0", "https://active.example")

	plan, err := o.reader().PlanIncident(t.Context(), lastHour(), time.Time{})
	require.NoError(t, err)
	require.Equal(t, IncidentPlan{Webhooks: 6, Bots: 3, Hosts: 3, Missed: IncidentMissed{Sample: 6}, Errors: []IncidentError{
		{"timeout", "timeout", 3}, {"dns", "dns: no such host", 1}, {"dns", "dns: timeout", 1}, {"http_5xx", "", 1},
	}}, plan)

	for name, c := range map[string]struct {
		errors, bots []string
		webhooks     int
	}{
		"a text that is a class":     {errors: []string{"timeout"}, webhooks: 3},
		"a class":                    {errors: []string{"dns"}, webhooks: 2},
		"a text":                     {errors: []string{"dns: timeout"}, webhooks: 1},
		"several":                    {errors: []string{"dns: timeout", "timeout"}, webhooks: 4},
		"the class of a lost text":   {errors: []string{"http_5xx"}, webhooks: 1},
		"none":                       {errors: []string{"tls"}},
		"bots":                       {bots: []string{"bot-0"}, webhooks: 3},
		"bots and errors":            {bots: []string{"bot-0", "bot-2"}, errors: []string{"timeout"}, webhooks: 2},
		"a bot that is suspended":    {bots: []string{"bot-9"}},
		"an error that only another": {bots: []string{"bot-2"}, errors: []string{"dns"}},
	} {
		f := lastHour(c.errors...)
		f.BotIDs = c.bots
		plan, err := o.reader().PlanIncident(t.Context(), f, time.Time{})
		require.NoError(t, err, name)
		require.Equal(t, c.webhooks, plan.Webhooks, name)
		id := o.start(t, f)
		require.Equal(t, c.webhooks, count(t, o.pool, "incident_webhooks WHERE incident_id = $1", id), name+": what was counted is what is begun")
	}
}

// TestReader_PlanIncident_Missed: what the recoveries would deliver is counted as they would find it.
func TestReader_PlanIncident_Missed(t *testing.T) {
	t.Parallel()
	o := newOutage(t)
	for i := range 5 {
		addEvent(t, o.pool, fmt.Sprintf("missed-%d", i), 5*time.Minute)
	}
	addEvent(t, o.pool, "before", 15*time.Minute)
	for i := range 2 {
		id := o.disable(t, fmt.Sprintf("bot-%d", i), "timeout", "timeout", 10*time.Minute)
		execute(t, o.pool, `INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, duration_ms, attempted_at)
			SELECT `+dbtest.DeliveryID("accepted_at")+`, $1, id, 1, true, 1, now() FROM events WHERE id = 'missed-0'`, id)
	}
	plan, err := o.reader().PlanIncident(t.Context(), lastHour(), time.Time{})
	require.NoError(t, err)
	require.Equal(t, IncidentMissed{Events: 10, Sample: 2}, plan.Missed, "four missed and one not taken before, each")

	for i := range 38 {
		o.disable(t, fmt.Sprintf("other-%d", i), "timeout", "timeout", 20*time.Minute)
	}
	plan, err = o.reader().PlanIncident(t.Context(), lastHour(), time.Time{})
	require.NoError(t, err)
	require.True(t, plan.Missed.Estimated)
	require.Equal(t, 10, plan.Missed.Sample)
	require.InDelta(t, 10+38*6, plan.Missed.Events, 8)

	execute(t, o.pool, "INSERT INTO events (id, type, payload, run_id) SELECT 'e' || n, 'post.created', '{}', 'run' FROM generate_series(1, 1100) n")
	plan, err = o.reader().PlanIncident(t.Context(), lastHour(), time.Time{})
	require.NoError(t, err)
	require.True(t, plan.Missed.AtLeast, "more than are looked at")
}

// TestAPlanOfAHundredThousand: an operator's dry run is answered within a second, on a machine that others do not use.
func TestAPlanOfAHundredThousand(t *testing.T) { //nolint:paralleltest // it measures time
	o := newOutage(t)
	const all = 100_000
	execute(t, o.pool, "INSERT INTO bots (id, name) SELECT 'bot-' || n, 'bot' FROM generate_series(0, 1999) n")
	execute(t, o.pool, "ALTER TABLE webhooks DISABLE TRIGGER USER") // which have nothing to do for disabled ones
	execute(t, o.pool, `INSERT INTO webhooks (id, bot_id, url, origin, events, is_active, failure_class, disabled_reason, disabled_by, disabled_at, created_at)
		SELECT gen_random_uuid(), 'bot-' || n % 2000, 'sealed', 'https://host-' || n % 5000 || '.example', '{post.created}', false,
			CASE n % 3 WHEN 0 THEN 'timeout' WHEN 1 THEN 'dns' ELSE 'http_5xx' END, 'failures', gen_random_uuid(), now() - interval '10 minutes', now() - interval '40 days'
		FROM generate_series(1, $1::integer) n`, all)
	execute(t, o.pool, `INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, error, duration_ms, attempted_at)
		SELECT disabled_by, id, 'e', 1, false, CASE failure_class WHEN 'dns' THEN 'dns: no such host' WHEN 'http_5xx' THEN 'HTTP 503' ELSE 'timeout' END, 1, now() FROM webhooks`)
	execute(t, o.pool, "INSERT INTO events (id, type, payload, run_id, accepted_at) SELECT 'e' || n, 'post.created', '{}', 'run', now() - n * interval '1 second' FROM generate_series(1, 5000) n")
	execute(t, o.pool, "ALTER TABLE webhooks ENABLE TRIGGER USER")
	execute(t, o.pool, "ANALYZE")
	for _, texts := range [][]string{nil, {"HTTP 503"}, {"dns"}} {
		began := time.Now()
		plan, err := o.reader().PlanIncident(t.Context(), lastHour(texts...), time.Time{})
		took := time.Since(began)
		require.NoError(t, err)
		require.Equal(t, []bool{texts == nil, true}, []bool{plan.Webhooks == all, plan.Webhooks >= all/3})
		require.Less(t, took, 15*time.Second, "%v", texts) // a third of a second, where nothing else runs
		t.Logf("%v: %v", texts, took)
	}
	began := time.Now()
	id := o.start(t, lastHour())
	t.Logf("begun in %v", time.Since(began))
	step := o.step(t, id)
	require.Equal(t, []int{all, incidentPage}, []int{step.Found, step.Enabled})
	began = time.Now()
	step, _, err := o.RecoverIncident(t.Context(), id, IncidentOptions{})
	require.NoError(t, err)
	require.Equal(t, 2*incidentPage, step.Enabled)
	t.Logf("a step in %v", time.Since(began))
}
