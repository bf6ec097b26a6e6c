package bench_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

// holdings measures what bots and webhooks take on the disk, and what polls that wait take in memory: bots with a key, ten webhooks with a secret of
// three event types which no load emits, and two polls each.
func (s *scaled) holdings() {
	bots := make([]*testkit.Bot, either(180, 2))
	atOnce(s.t, len(bots), func(i int) error {
		bot := s.product.api.CreateBot(s.t, fmt.Sprintf("size-%d", i))
		for n := range 10 {
			url := fmt.Sprintf("http://%s/hooks/mathub/%d?token=0123456789abcdef", s.Outside.At(9000), n)
			bot.CreateWebhook(s.t, url, "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3", "wiki.edited", "thread.created", "mention")
		}
		bots[i-1] = bot
		return nil
	})
	s.tableSize("webhooks", "webhooks")
	s.tableSize("subscriptions", "webhooks")
	s.tableSize("bots", "bots")
	s.tableSize("api_keys", "bots")
	s.polls(bots)
}

// polls measures what polls hold that wait for an event.
func (s *scaled) polls(bots []*testkit.Bot) {
	const each = 2 // in all fewer than the 500 requests that an address may have in progress
	ctx, cancel := context.WithCancel(s.t.Context())
	var asked, early atomic.Int64
	var all sync.WaitGroup
	api := s.members[0]
	before := api.memory(s.t)
	tracing := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { asked.Add(1) }})
	for _, bot := range bots {
		for range each {
			all.Go(func() {
				_, err := s.product.api.Do(tracing, http.MethodGet, "/api/bot/v1/events?after=latest&wait=25s", bot.Key, nil)
				if !errors.Is(err, context.Canceled) {
					early.Add(1)
				}
			})
		}
	}
	n := len(bots) * each
	require.Eventually(s.t, func() bool { return int(asked.Load()) == n }, 20*time.Second, 10*time.Millisecond)
	if full {
		time.Sleep(2 * time.Second) // until each has been looked after, and waits
	}
	s.r.add("a waiting poll: memory of an API, KiB", "", (api.memory(s.t)-before)*1024/float64(n))
	s.t.Logf("%d polls wait; the API has %d connections to Postgres", n, s.connections()[api.node.Address.String()])
	cancel()
	all.Wait()
	require.Zero(s.t, early.Load(), "polls that were answered although nothing had happened")
}

// tableSize notes what a table and its indexes take, over the rows of a table.
func (s *scaled) tableSize(table, per string) {
	var rows, heap, indexes float64
	require.NoError(s.t, s.product.db.QueryRow(s.t.Context(), fmt.Sprintf(`
		SELECT (SELECT count(*) FROM %s)::float8, sum(pg_table_size(relid))::float8, sum(pg_indexes_size(relid))::float8
		FROM (SELECT relid FROM pg_partition_tree('%[2]s') UNION SELECT '%[2]s'::regclass) t`, per, table)).Scan(&rows, &heap, &indexes))
	require.Positive(s.t, rows)
	s.r.add(fmt.Sprintf("%s: bytes of the table, of %s", table, per), "", heap/rows)
	s.r.add(fmt.Sprintf("%s: bytes of its indexes, of %s", table, per), "", indexes/rows)
}
