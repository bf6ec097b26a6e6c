package history

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/internal/audit"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
)

func begin1(t testing.TB, pool *pgxpool.Pool, scope PauseScope, value string) Pause {
	t.Helper()
	p, err := (&Pauses{Pool: pool}).Begin(t.Context(), scope, value, "a reason")
	require.NoError(t, err)
	return p
}

func end1(t testing.TB, pool *pgxpool.Pool, scope PauseScope, value string) {
	t.Helper()
	require.NoError(t, (&Pauses{Pool: pool}).End(t.Context(), scope, value))
}

// TestPauses_Covering: a pause covers the webhooks that it names and no others, however the host is written.
func TestPauses_Covering(t *testing.T) {
	t.Parallel()
	urls := map[string]string{
		"name": "https://example.com", "port": "https://example.com:8443", "subdomain": "https://www.example.com", "longer": "https://example.com.org",
		"ipv4": "https://203.0.113.7:8443", "ipv6": "https://[2001:db8::1]", "ipv6 port": "https://[2001:db8::1]:8443", "other ipv6": "https://[2001:db8::1:1]",
		"punycode": "https://xn--bcher-kva.example",
	}
	pool := dbtest.New(t)
	ids := map[string]uuid.UUID{}
	all := []uuid.UUID{}
	for name, url := range urls {
		ids[name] = addWebhookAt(t, pool, url)
		all = append(all, ids[name])
	}
	ids["another bot's"] = addWebhookOf(t, pool, "another", "https://example.com")
	all = append(all, ids["another bot's"])

	for name, c := range map[string]struct {
		scope  PauseScope
		value  string
		covers []string
	}{
		"all":                   {PauseAll, "", []string{"name", "port", "subdomain", "longer", "ipv4", "ipv6", "ipv6 port", "other ipv6", "punycode", "another bot's"}},
		"a bot":                 {PauseBot, "another", []string{"another bot's"}},
		"a host":                {PauseHost, "example.com", []string{"name", "port", "another bot's"}},
		"in upper case":         {PauseHost, "EXAMPLE.com.", []string{"name", "port", "another bot's"}},
		"a subdomain":           {PauseHost, "www.example.com", []string{"subdomain"}},
		"an address":            {PauseHost, "203.0.113.7", []string{"ipv4"}},
		"its other notation":    {PauseHost, "0xcb007107", []string{"ipv4"}},
		"IPv6":                  {PauseHost, "2001:DB8:0::1", []string{"ipv6", "ipv6 port"}},
		"IPv6 in brackets":      {PauseHost, "[2001:db8::1]", []string{"ipv6", "ipv6 port"}},
		"an international name": {PauseHost, "bücher.example", []string{"punycode"}},
		"nobody's":              {PauseHost, "example.net", nil},
	} {
		begin1(t, pool, c.scope, c.value)
		covering, err := (&Pauses{Pool: pool}).Covering(t.Context(), all)
		require.NoError(t, err)
		var covered []string
		for of, id := range ids {
			if p, is := covering[id]; is {
				covered = append(covered, of)
				require.Equal(t, c.scope, p.Scope)
			}
		}
		require.ElementsMatch(t, c.covers, covered, name)
		end1(t, pool, c.scope, c.value)
	}
	for _, url := range urls {
		var host string
		scan(t, pool, "SELECT host_of($1)", []any{url}, &host)
		require.Equal(t, webhook.Hostname(webhook.HostOf(url)), host, "Postgres names hosts as the fuse does")
	}
}

// TestPauses_OldestShows: of several pauses the one shows that has covered the webhook the longest.
func TestPauses_OldestShows(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	id := addWebhook(t, pool)
	for _, of := range []struct {
		scope PauseScope
		value string
	}{{PauseHost, "example.com"}, {PauseBot, "bot"}, {PauseAll, ""}} {
		begin1(t, pool, of.scope, of.value)
	}
	for _, scope := range []PauseScope{PauseHost, PauseBot, PauseAll} {
		state, err := (&Queue{Pool: pool}).Look(t.Context(), id, 1)
		require.NoError(t, err)
		require.Equal(t, scope, state.Paused.Scope)
		end1(t, pool, scope, state.Paused.Value)
	}
	state, err := (&Queue{Pool: pool}).Look(t.Context(), id, 1)
	require.NoError(t, err)
	require.Nil(t, state.Paused)
}

// TestPauses_Begin: a repeated pause goes on with the new reason; each change is in the audit log, a bot's also for its owner.
func TestPauses_Begin(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	addWebhook(t, pool)
	pauses := &Pauses{Pool: pool}
	ctx := audit.As(t.Context(), audit.Actor{Kind: audit.Service, Name: "ada"})
	first, err := pauses.Begin(ctx, PauseBot, "bot", " first ")
	require.NoError(t, err)
	require.Equal(t, Pause{Scope: PauseBot, Value: "bot", Reason: "first", By: "ada", Since: first.Since}, first)
	same, err := pauses.Begin(t.Context(), PauseBot, "bot", "first")
	require.NoError(t, err)
	require.Equal(t, first, same)
	second, err := pauses.Begin(t.Context(), PauseBot, "bot", "second")
	require.NoError(t, err)
	require.Equal(t, first.Since, second.Since)
	require.Equal(t, []string{"second", "system"}, []string{second.Reason, second.By}, "who gave the reason answers for it")
	host, err := pauses.Begin(t.Context(), PauseHost, "example.com", "third")
	require.NoError(t, err)
	require.Equal(t, "system", host.By)
	list, next, err := pauses.List(t.Context(), "", 2)
	require.NoError(t, err)
	require.Equal(t, []Pause{second, host}, list)
	require.Empty(t, next)
	list, next, err = pauses.List(t.Context(), "", 1)
	require.NoError(t, err)
	require.Equal(t, []Pause{second}, list)
	list, next, err = pauses.List(t.Context(), next, 1)
	require.NoError(t, err)
	require.Equal(t, []Pause{host}, list)
	require.Empty(t, next)
	_, _, err = pauses.List(t.Context(), "bot", 1)
	require.ErrorContains(t, err, "after: ")
	require.NoError(t, pauses.End(ctx, PauseHost, "example.com"))
	require.Equal(t, problem.ErrNotFound, pauses.End(ctx, PauseHost, "example.com"))

	entries := func(botID string) (actions []audit.Action) {
		list, _, err := (&audit.Reader{Pool: pool}).List(t.Context(), botID, uuid.Nil)
		require.NoError(t, err)
		for _, e := range list {
			actions = append(actions, e.Action)
		}
		return actions
	}
	require.Equal(t, []audit.Action{audit.DeliveriesPaused, audit.DeliveriesPaused}, entries("bot"))
	require.Equal(t, []audit.Action{audit.DeliveriesResumed, audit.DeliveriesPaused, audit.DeliveriesPaused, audit.DeliveriesPaused}, entries(""))

	execute(t, pool, "DELETE FROM bots WHERE id = 'bot'")
	list, _, err = pauses.List(t.Context(), "", 10)
	require.NoError(t, err)
	require.Empty(t, list, "a bot's pause goes with it")
}

func TestPauses_Invalid(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	addWebhook(t, pool)
	for name, c := range map[string]struct {
		scope         PauseScope
		value, reason string
		fields        []string
	}{
		"no scope":          {"", "", "r", []string{"scope"}},
		"another scope":     {"webhook", "x", "r", []string{"scope"}},
		"a value of all":    {PauseAll, "bot", "r", []string{"value"}},
		"no bot":            {PauseBot, "", "r", []string{"value"}},
		"no bot's id":       {PauseBot, "a b", "r", []string{"value"}},
		"no host":           {PauseHost, "", "r", []string{"value"}},
		"a port":            {PauseHost, "example.com:443", "r", []string{"value"}},
		"a URL":             {PauseHost, "https://example.com", "r", []string{"value"}},
		"a space":           {PauseHost, "example com", "r", []string{"value"}},
		"a wildcard":        {PauseHost, "*.example.com", "r", []string{"value"}},
		"no IPv4":           {PauseHost, "203.0.113.777", "r", []string{"value"}},
		"no IPv6":           {PauseHost, "2001:db8::g", "r", []string{"value"}},
		"a zone":            {PauseHost, "fe80::1%eth0", "r", []string{"value"}},
		"half a bracket":    {PauseHost, "[2001:db8::1", "r", []string{"value"}},
		"IPv4 in brackets":  {PauseHost, "[203.0.113.7]", "r", []string{"value"}},
		"no reason":         {PauseAll, "", "  ", []string{"reason"}},
		"a long reason":     {PauseAll, "", strings.Repeat("é", 201), []string{"reason"}},
		"two lines":         {PauseAll, "", "a\nb", []string{"reason"}},
		"a line separator":  {PauseAll, "", "a\u2028b", []string{"reason"}},
		"a terminal escape": {PauseAll, "", "a\u009b31m", []string{"reason"}},
		"turned text":       {PauseAll, "", "a\u202eb", []string{"reason"}},
		"several at once":   {PauseBot, "", "", []string{"value", "reason"}},
		"the longest there": {PauseAll, "", strings.Repeat("é", 200), nil},
	} {
		_, err := (&Pauses{Pool: pool}).Begin(t.Context(), c.scope, c.value, c.reason)
		var fields []string
		if err != nil {
			for _, f := range problem.Of(err).Fields {
				fields = append(fields, f.Field)
			}
		}
		require.Equal(t, c.fields, fields, name)
	}
	_, err := (&Pauses{Pool: pool}).Begin(t.Context(), PauseBot, "nobody", "r")
	require.True(t, problem.Is(err, problem.NotFound), "%v", err)
}

// TestPauses_Wakes: nobody wakes the queue of a paused webhook, and the sweep finds it as soon as the pause is over, also what
// has been due for a moment only.
func TestPauses_Wakes(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	r, woken := newTestRecorder(t, pool)
	queue := &Queue{Pool: pool}
	overdue := func() (ids []uuid.UUID) {
		found, _, err := queue.Overdue(t.Context())
		require.NoError(t, err)
		for _, w := range found {
			ids = append(ids, w.WebhookID)
		}
		return ids
	}
	paused, other := addWebhookAt(t, pool, "https://paused.example"), addWebhookAt(t, pool, "https://other.example")
	begin1(t, pool, PauseHost, "paused.example")
	for _, id := range []uuid.UUID{paused, other} {
		addRow(t, pool, id, "old", webhook.TriggerEvent, -30*time.Second)
		enqueue(t, r, Plan{WebhookID: id, EventID: "new", Number: 1, Step: 1, Trigger: webhook.TriggerEvent})
	}
	fresh := addWebhookAt(t, pool, "https://paused.example")
	enqueue(t, r, Plan{WebhookID: fresh, EventID: "new", Number: 1, Step: 1, Trigger: webhook.TriggerEvent})
	require.Empty(t, woken.take(), "an older row, or a pause")
	retried := addWebhookAt(t, pool, "https://paused.example")
	enqueue(t, r, Plan{WebhookID: retried, EventID: "new", Number: 2, Step: 2, Trigger: webhook.TriggerRetry, Delay: time.Hour})
	require.Len(t, woken.take(), 1, "what is due once the pause is over, no sweep finds at its end")
	enqueue(t, r, Plan{WebhookID: paused, EventID: "retried", Number: 2, Step: 2, Trigger: webhook.TriggerRetry, Delay: time.Hour})
	require.Len(t, woken.take(), 1, "what it stands behind may be gone by then")
	s, err := queue.Look(t.Context(), paused, 3)
	require.NoError(t, err)
	require.Len(t, s.Due, 2)
	require.InDelta(t, time.Hour, s.NextIn, float64(10*time.Second), "the next that is not due yet")
	require.Equal(t, []uuid.UUID{other}, overdue())
	require.Empty(t, overdue(), "not before half a minute")
	end1(t, pool, PauseHost, "paused.example")
	require.ElementsMatch(t, []uuid.UUID{paused, other, fresh}, overdue())
	enqueue(t, r, Plan{WebhookID: addWebhookAt(t, pool, "https://paused.example"), EventID: "new", Number: 1, Step: 1, Trigger: webhook.TriggerEvent})
	require.Len(t, woken.take(), 1)
}

// TestQueue_Overdue_PausedRecoveries: a recovery of a paused webhook does not move, and is not begun anew before the pause is
// over; the parts of a sweep begin it once.
func TestQueue_Overdue_PausedRecoveries(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	queue := &Queue{Pool: pool}
	id := addWebhook(t, pool)
	_, err := queue.StartRecovery(t.Context(), Span{WebhookID: id, Since: time.Now(), Until: time.Now()})
	require.NoError(t, err)
	execute(t, pool, "UPDATE recoveries SET updated_at = now() - interval '1 minute'")
	stalled := func() int {
		_, recovering, err := queue.Overdue(t.Context())
		require.NoError(t, err)
		return len(recovering)
	}
	begin1(t, pool, PauseHost, "example.com")
	require.Zero(t, stalled())
	end1(t, pool, PauseHost, "example.com")
	require.Equal(t, 1, stalled())
	execute(t, pool, "UPDATE queue_sweeps SET began_at = '-infinity', upto = '00000000-0000-0000-0000-000000000001'")
	require.Zero(t, stalled())
}

// TestQueue_Overdue_WaitingRecoveries: a recovery that has planned all, and waits for retries, is not begun anew, however long
// they take, and keeps none that is from being found.
func TestQueue_Overdue_WaitingRecoveries(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	queue := &Queue{Pool: pool}
	start := func(bot string) uuid.UUID {
		id := addWebhookOf(t, pool, bot, "https://example.com")
		_, err := queue.StartRecovery(t.Context(), Span{WebhookID: id, Since: time.Now(), Until: time.Now()})
		require.NoError(t, err)
		return id
	}
	for i := range 100 {
		start(fmt.Sprint(i))
	}
	execute(t, pool, `INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at, recovery_id)
		SELECT webhook_id, 'e', 2, 2, 'recover', now() + interval '8 hours', id FROM recoveries`)
	execute(t, pool, "UPDATE recoveries SET looked_through = true, updated_at = now() - interval '2 minutes'")
	fresh := start("fresh")
	execute(t, pool, "UPDATE recoveries SET updated_at = now() - interval '1 minute' WHERE webhook_id = $1", fresh)
	_, recovering, err := queue.Overdue(t.Context())
	require.NoError(t, err)
	require.Len(t, recovering, 1)
	require.Equal(t, fresh, recovering[0].WebhookID)
	again := func() []Webhook {
		execute(t, pool, "UPDATE queue_sweeps SET began_at = '-infinity', upto = '00000000-0000-0000-0000-000000000000'")
		_, recovering, err := queue.Overdue(t.Context())
		require.NoError(t, err)
		return recovering
	}
	execute(t, pool, "UPDATE webhooks SET queued = true, ordered = true, resume_at = now() + interval '8 hours'")
	execute(t, pool, "UPDATE recoveries SET looked_through = false")
	require.Len(t, again(), 1, "an ordered webhook that rests keeps its recovery waiting")
	execute(t, pool, "DELETE FROM queue")
	require.Len(t, again(), 100, "all was attempted, and nobody has ended them")
}

// TestQueue_Overdue_InParts: however many queues are overdue or paused, a sweep finds and looks at some, and the next ones at
// once those after them. The end of a pause begins with the first.
func TestQueue_Overdue_InParts(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	add := func(first byte, webhooks int, host, due string) {
		execute(t, pool, `WITH made AS (
			INSERT INTO webhooks (id, bot_id, url, origin, events) SELECT (lpad(to_hex($1::integer), 2, '0') || substr(md5(n::text), 3))::uuid, 'bot', 'sealed', $3::text, '{}' FROM generate_series(1, $2::integer) n RETURNING id
		) INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at) SELECT id, 'e', 1, 1, 'event', now() + $4::text::interval FROM made`, int(first), webhooks, "https://"+host, due)
	}
	execute(t, pool, "INSERT INTO bots (id, name) VALUES ('bot', 'bot')")
	queue := &Queue{Pool: pool}
	found := func() map[byte]int {
		webhooks, _, err := queue.Overdue(t.Context())
		require.NoError(t, err)
		of := map[byte]int{}
		for _, w := range webhooks {
			of[w.WebhookID[0]]++
		}
		return of
	}
	add(0x10, mostOverdue+50, "one.example", "-1 hour")
	add(0x20, mostSwept, "paused.example", "-1 hour")
	add(0x30, 10, "two.example", "-1 hour")
	begin1(t, pool, PauseHost, "paused.example")
	none := map[byte]int{}
	require.Equal(t, map[byte]int{0x10: mostOverdue}, found())
	require.Equal(t, map[byte]int{0x10: 50}, found(), "and as many that are paused as it may look at")
	require.Equal(t, map[byte]int{0x30: 10}, found())
	require.Equal(t, none, found(), "not before half a minute")

	execute(t, pool, "DELETE FROM queue WHERE webhook_id < '20000000-0000-0000-0000-000000000000'")
	execute(t, pool, "UPDATE queue_sweeps SET began_at = '-infinity'")
	require.Equal(t, none, found())
	end1(t, pool, PauseHost, "paused.example")
	require.Equal(t, map[byte]int{0x20: mostOverdue}, found(), "from the first on")
}

// TestRetention_KeepsWhatIsPaused: what waits for the end of a pause outlives the retention, and for a day more.
func TestRetention_KeepsWhatIsPaused(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	id := addWebhook(t, pool)
	for i := range 3 {
		addEvent(t, pool, fmt.Sprint(i), 40*24*time.Hour)
	}
	addRow(t, pool, id, "1", webhook.TriggerEvent, -time.Hour)
	remove := func() []string {
		_, err := (&Remover{Pool: pool, Retention: webhook.DefaultRetention}).RemoveExpired(t.Context(), Removal{})
		require.NoError(t, err)
		rows, err := db.New().GetEvents(t.Context(), pool, []string{"0", "1", "2"})
		require.NoError(t, err)
		left := []string{}
		for _, row := range rows {
			left = append(left, row.ID)
		}
		return left
	}
	begin1(t, pool, PauseAll, "")
	require.Equal(t, []string{"1"}, remove())
	end1(t, pool, PauseAll, "")
	require.Equal(t, []string{"1"}, remove())
	require.Len(t, queueOf(t, pool, id), 1)
	execute(t, pool, "UPDATE queue_sweeps SET resumed_at = now() - interval '25 hours'")
	require.Empty(t, remove())
	require.Empty(t, queueOf(t, pool, id))
}
