package bench_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/cluster"
	"github.com/mathub/webhooks/standalone/temporal"
)

// member is a process of the cluster, Postgres's taken together, or this process.
type member struct {
	kind  kind
	node  *cluster.Node // nil: this process
	group *group
	share float64 // of a core
}

func (s *scaled) addMembers(c *controller) {
	for _, of := range []struct {
		kind  kind
		nodes []*cluster.Node
	}{
		{apis, s.APIs},
		{workers, s.Workers},
		{frontends, s.Frontends},
		{histories, s.Histories},
		{matchings, s.Matchings},
		{temporalWorkers, s.TemporalWorkers},
		{primary, []*cluster.Node{s.Primary.Node}},
		{standby, []*cluster.Node{s.Standby.Node}},
		{balancer, []*cluster.Node{s.Balancer}},
	} {
		for _, node := range of.nodes {
			s.members = append(s.members, &member{kind: of.kind, node: node, group: c.newGroup(s.t, node.Name)})
		}
	}
	s.members = append(s.members, &member{kind: outside, group: c.newGroup(s.t, "outside")})
}

// running are the members whose program runs.
func (s *scaled) running() (members []*member) {
	for _, m := range s.members {
		if m.node == nil || m.node.Process().Alive() {
			members = append(members, m)
		}
	}
	return members
}

// count is how many of a kind run.
func (s *scaled) count(of kind) (n int) {
	for _, m := range s.running() {
		if m.kind == of {
			n++
		}
	}
	return n
}

func (m *member) processes(t *testing.T) []int {
	t.Helper()
	if m.node == nil {
		return []int{os.Getpid()} // its children are the others
	}
	return family(t, m.node.Process().PID())
}

func (m *member) processorTime(t *testing.T) time.Duration {
	t.Helper()
	if m.node == nil {
		return processTime(os.Getpid(), false)
	}
	return familyTime(t, m.node.Process().PID())
}

func (m *member) memory(t *testing.T) float64 {
	t.Helper()
	if m.node == nil {
		return kibibytes(t, os.Getpid(), "status", "VmRSS") / 1024
	}
	return familyMemory(t, m.node.Process().PID())
}

func (s *scaled) throttling() map[*member]throttling {
	all := map[*member]throttling{}
	for _, m := range s.running() {
		all[m] = m.group.throttling(s.t)
	}
	return all
}

func (s *scaled) processorTime() map[*member]time.Duration {
	all := map[*member]time.Duration{}
	for _, m := range s.running() {
		all[m] = m.processorTime(s.t)
	}
	return all
}

// connections are those to the primary, by the address of the other end.
func (s *scaled) connections() map[string]int {
	rows, err := s.product.db.Query(s.t.Context(), "SELECT host(client_addr), count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND client_addr IS NOT NULL GROUP BY 1")
	require.NoError(s.t, err)
	all := map[string]int{}
	var address string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&address, &n}, func() error { all[address] = n; return nil })
	require.NoError(s.t, err)
	return all
}

// rest waits until the cluster uses little more than without load, for 3 seconds at most: it has then done what the load before left over.
func (s *scaled) rest() {
	if !full {
		return
	}
	const window = 500 * time.Millisecond
	var idle float64
	for _, m := range s.running() {
		idle += s.idle[m.kind]
	}
	for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline); {
		before := s.processorTime()
		time.Sleep(window) // the time that is measured
		var used time.Duration
		for m, after := range s.processorTime() {
			used += after - before[m]
		}
		if used.Seconds()/window.Seconds() < idle+0.1 {
			return
		}
	}
}

// measureIdle measures what each kind of process uses and holds without load, all of them running.
func (s *scaled) measureIdle() {
	if full {
		time.Sleep(10 * time.Second) // until what the start put off is done
	}
	before, began := s.processorTime(), time.Now()
	time.Sleep(time.Duration(either(10_000, 300)) * time.Millisecond) // the time that is measured
	took := time.Since(began)
	of := map[kind]float64{}
	for m, after := range s.processorTime() {
		of[m.kind]++
		s.idle[m.kind] += (after - before[m]).Seconds() / took.Seconds()
	}
	connections := s.connections()
	for _, kind := range kinds {
		s.idle[kind] /= of[kind]
		s.r.add(fmt.Sprintf("%s: cores without load", kind), "", s.idle[kind])
	}
	for _, m := range s.members {
		held := 0
		if m.node != nil {
			held = connections[m.node.Address.String()]
		}
		s.t.Logf("%s: without load, %.0f MiB and %d connections", m.kind, m.memory(s.t), held)
	}
}

// spending is what a load has cost, in all steps.
type spending struct {
	workflows, events, deliveries float64
	processor                     map[kind]float64
	postgres                      postgresWork
}

// measure gives the cluster a load and notes what it carries and costs.
func (s *scaled) measure(step step, load workload) {
	a := newAudience(s.t, s.product, load.webhooks)
	s.rest()
	work := s.postgresWork()
	used, stopped, began := s.processorTime(), s.throttling(), time.Now()
	perSecond := a.flow(s.t, s, load, time.Duration(either(8000, 1000))*time.Millisecond)
	name := fmt.Sprintf("%s, %s", step, load.name)
	s.r.add(name+": events/s", "", perSecond)
	s.r.add(name+": deliveries/s", "", perSecond*float64(load.webhooks))
	parts := map[*member]float64{}
	for _, m := range s.running() {
		parts[m] = m.group.throttling(s.t).since(stopped[m])
	}
	took := time.Since(began)
	usedAfter := s.processorTime()
	sum := s.spent[load.name]
	if sum == nil {
		sum = &spending{processor: map[kind]float64{}}
		s.spent[load.name] = sum
	}
	for m, after := range usedAfter {
		sum.processor[m.kind] += (after - used[m]).Seconds() - s.idle[m.kind]*took.Seconds()
	}
	s.table(name, used, usedAfter, took, parts)
	s.valid(name, step, parts)
	a.checkRecorded(s.t)
	work = s.postgresWork().since(work)
	var workflows float64
	require.NoError(s.t, a.db.QueryRow(s.t.Context(), "SELECT count(DISTINCT run_id) FROM events WHERE id LIKE $1", a.prefix+"-%").Scan(&workflows))
	events := float64(a.events.Load())
	sum.workflows, sum.events, sum.deliveries = sum.workflows+workflows, sum.events+events, sum.deliveries+events*float64(load.webhooks)
	sum.postgres.log, sum.postgres.temporal = sum.postgres.log+work.log, sum.postgres.temporal+work.temporal
	s.t.Logf("%s: %.0f events/s, %.0f deliveries/s, %.1f events a workflow, %.0f of %.0f deliveries through the queue", name,
		perSecond, perSecond*float64(load.webhooks), events/workflows, work.queued, events*float64(load.webhooks))
	a.retire(s.t)
}

// postgresWork is how many bytes of log the primary has written, how many bytes Temporal's databases take, and how many rows the queue has got.
type postgresWork struct{ log, temporal, queued float64 }

func (s *scaled) postgresWork() (w postgresWork) {
	require.NoError(s.t, s.product.db.QueryRow(s.t.Context(), `
		SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8, (pg_database_size($1::name) + pg_database_size($2::name))::float8,
			(SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'queue')::float8`, temporal.Database, temporal.VisibilityDatabase).Scan(&w.log, &w.temporal, &w.queued))
	return w
}

func (w postgresWork) since(before postgresWork) postgresWork {
	return postgresWork{w.log - before.log, w.temporal - before.temporal, w.queued - before.queued}
}

// valid: the narrow processes are what the load waited for, and no other was.
func (s *scaled) valid(name string, step step, stopped map[*member]float64) {
	for m, part := range stopped {
		switch {
		case m.kind == step.narrow && part < either(0.5, 0.1):
			s.faults = append(s.faults, fmt.Sprintf("%s: %s was stopped at its share in %.0f %% of the time only: something else was narrower", name, m.kind, 100*part))
		case m.kind != step.narrow && part > 0.2 && full:
			s.faults = append(s.faults, fmt.Sprintf("%s: %s was stopped at its share in %.0f %% of the time: give it a wider one", name, m.kind, 100*part))
		}
	}
}

// table shows what each process used of its share while a load was on.
func (s *scaled) table(name string, before, after map[*member]time.Duration, took time.Duration, stopped map[*member]float64) {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(w, "%s\tshare\tused\tstopped\tMiB\tconnections\n", name) // into memory
	connections := s.connections()
	var used float64
	for _, m := range s.running() {
		cores := (after[m] - before[m]).Seconds() / took.Seconds()
		used += cores
		held := 0
		if m.node != nil {
			held = connections[m.node.Address.String()]
		}
		_, _ = fmt.Fprintf(w, "%s\t%.3f\t%.3f\t%.0f %%\t%.0f\t%d\n", m.kind, m.share, cores, 100*stopped[m], m.memory(s.t), held)
	}
	_, _ = fmt.Fprintf(w, "all\t\t%.2f\n", used)
	_ = w.Flush()
	s.t.Log("\n" + b.String())
}

// compare holds what more processes carry against what one does.
func (s *scaled) compare() {
	for _, load := range []workload{oneWebhook, tenOfThem} {
		for n := 2; n <= len(s.Workers); n++ {
			s.r.ratio(fmt.Sprintf("%d workers : 1, %s", n, load.name), fmt.Sprintf("%d workers, %s: events/s", n, load.name),
				fmt.Sprintf("1 worker, %s: events/s", load.name), 0.9*float64(n))
		}
	}
	s.r.ratio("2 history hosts : 1", "2 history hosts, "+workflowly.name+": events/s", "1 history host, "+workflowly.name+": events/s", 1.6)
}

// costs works out what a workflow, an event in it, and a delivery of it cost each kind of process, from three loads in which their numbers
// differ: three equations with three unknowns.
func (s *scaled) costs() {
	solve := func(name, unit string, of func(*spending) float64) {
		one, ten, single := s.spent[oneWebhook.name], s.spent[tenOfThem.name], s.spent[workflowly.name]
		a, b, c := of(single)/single.events, of(one)/one.events, of(ten)/ten.events // the cost of an event, with all that belongs to it
		inOne, inTen := one.workflows/one.events, ten.workflows/ten.events
		workflow := (a - b) / (1 - inOne)
		delivery := (c - b - workflow*(inTen-inOne)) / 9
		s.r.add(name+" a workflow", unit, workflow)
		s.r.add(name+" an event", unit, a-workflow-delivery)
		s.r.add(name+" a delivery", unit, delivery)
	}
	for _, kind := range kinds {
		solve(string(kind)+": processor time of", "ms", func(sp *spending) float64 { return 1000 * sp.processor[kind] })
	}
	solve("log that Postgres writes for", "bytes", func(sp *spending) float64 { return sp.postgres.log })
	solve("growth of Temporal's databases by", "bytes", func(sp *spending) float64 { return sp.postgres.temporal })
	s.tableSize("events", "events")
	s.tableSize("deliveries", "deliveries")
}
