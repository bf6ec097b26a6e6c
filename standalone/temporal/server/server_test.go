package server_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	schema "go.temporal.io/server/schema/postgresql/v12"

	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/servers"
	"github.com/mathub/webhooks/standalone/temporal"
	"github.com/mathub/webhooks/standalone/temporal/server"
	"github.com/mathub/webhooks/standalone/testkit"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == temporal.Subcommand {
		if err := server.RunChild(); err != nil {
			println(err.Error())
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func start(t *testing.T, settings temporal.Settings) *servers.Servers {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := servers.Start(ctx, servers.Options{Dir: testkit.Scratch(t), Temporal: settings})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	return s
}

// TestServer reads back from a running server what the product relies on.
func TestServer(t *testing.T) {
	t.Parallel()
	s := start(t, temporal.Settings{HistoryShards: 4})
	c, err := client.Dial(client.Options{HostPort: s.TemporalAddr()})
	require.NoError(t, err)
	defer c.Close()
	service := c.WorkflowService()

	t.Run("closed workflows stay visible for 7 days", func(t *testing.T) {
		described, err := service.DescribeNamespace(t.Context(), &workflowservice.DescribeNamespaceRequest{Namespace: "default"})
		require.NoError(t, err)
		require.Equal(t, 7*24*time.Hour, described.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration())
	})
	t.Run("the slow queue has one partition", func(t *testing.T) {
		partitions := func(queue string) int {
			listed, err := service.ListTaskQueuePartitions(t.Context(), &workflowservice.ListTaskQueuePartitionsRequest{
				Namespace: "default", TaskQueue: &taskqueuepb.TaskQueue{Name: queue, Kind: enumspb.TASK_QUEUE_KIND_NORMAL},
			})
			require.NoError(t, err)
			return len(listed.GetActivityTaskQueuePartitions())
		}
		require.Equal(t, 1, partitions("mathub-webhooks-slow"))
		require.Equal(t, 4, partitions("mathub-webhooks"))
	})
	t.Run("the number of shards is kept", func(t *testing.T) {
		require.NoError(t, s.StopTemporal(t.Context()))
		require.NoError(t, s.Temporal.Wait(), "it stops in order")
		s.SetTemporal(func(settings *temporal.Settings) { settings.HistoryShards = 32 })
		require.NoError(t, s.StartTemporal(t.Context()))
		conn, err := pgx.Connect(t.Context(), s.DatabaseURL(temporal.Database))
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close(context.Background())) }()
		var shards int
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM shards").Scan(&shards))
		require.Equal(t, 4, shards)
	})
	t.Run("lists keep the indexes in use, and have them all for an update of their schema", func(t *testing.T) {
		conn, err := pgx.Connect(t.Context(), s.DatabaseURL(temporal.VisibilityDatabase))
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close(context.Background())) }()
		indexes := func() (n int) {
			require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_index WHERE indrelid = 'executions_visibility'::regclass").Scan(&n))
			return n
		}
		require.Equal(t, 7, indexes())
		run := func(file string) int {
			statements, err := os.ReadFile(file)
			require.NoError(t, err)
			_, err = conn.Exec(t.Context(), string(statements))
			require.NoError(t, err)
			return indexes()
		}
		require.Greater(t, run("restore.sql"), 60)
		require.Equal(t, 7, run("slim.sql"))

		// The last step of Temporal's own schema once more: what stands in the list of slimmed indexes is made, and found.
		require.NoError(t, s.StopTemporal(t.Context()))
		_, err = conn.Exec(t.Context(), "INSERT INTO slimmed_indexes VALUES ('by_nothing', 'CREATE INDEX by_nothing ON executions_visibility (run_id)')")
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), "UPDATE schema_version SET curr_version = '1.13'")
		require.NoError(t, err)
		require.NoError(t, s.StartTemporal(t.Context()))
		var version, definition string
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT curr_version FROM schema_version").Scan(&version))
		require.Equal(t, schema.VisibilityVersion, version)
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT definition FROM slimmed_indexes WHERE name = 'by_nothing'").Scan(&definition))
		require.Contains(t, definition, "USING btree", "as Postgres tells it of an index that there is")
		require.Equal(t, 7, indexes())
	})
	t.Run("what failed is found among many by an index of its own", func(t *testing.T) {
		conn, err := pgx.Connect(t.Context(), s.DatabaseURL(temporal.VisibilityDatabase))
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close(context.Background())) }()
		_, err = conn.Exec(t.Context(), `
			INSERT INTO executions_visibility (namespace_id, run_id, start_time, execution_time, workflow_id, workflow_type_name, status, close_time, encoding, search_attributes)
			SELECT 'n', n::text, now() - n * interval '1 s', now(), 'event-' || n, 'DeliverEvent', 2, now() - n * interval '1 s', '',
				CASE WHEN n % 1000 = 0 THEN '{"Bool02": true, "KeywordList03": ["hook"]}'::jsonb ELSE '{"Keyword07": "post.created"}' END
			FROM generate_series(1, 50000) n`)
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), "ANALYZE executions_visibility")
		require.NoError(t, err)
		// As Temporal asks for MathubWebhookId = "hook" AND MathubFailed = true.
		rows, err := conn.Query(t.Context(), `
			EXPLAIN (ANALYZE, COSTS OFF) SELECT workflow_id FROM executions_visibility
			WHERE namespace_id = 'n' AND KeywordList03 @> jsonb_build_array('hook') AND Bool02 = true AND TemporalNamespaceDivision IS NULL
			ORDER BY coalesce(close_time, '9999-12-31 23:59:59') DESC, start_time DESC, run_id LIMIT $1`, 100)
		require.NoError(t, err)
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		require.Contains(t, strings.Join(plan, "\n"), "failed_idx")
		_, err = conn.Exec(t.Context(), "DELETE FROM executions_visibility WHERE namespace_id = 'n'")
		require.NoError(t, err)
	})
	t.Run("an interrupted set-up is made anew", func(t *testing.T) {
		require.NoError(t, s.StopTemporal(t.Context()))
		conn, err := pgx.Connect(t.Context(), s.DatabaseURL(temporal.VisibilityDatabase))
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close(context.Background())) }()
		_, err = conn.Exec(t.Context(), "DELETE FROM schema_version")
		require.NoError(t, err)
		require.NoError(t, s.StartTemporal(t.Context()))
	})
}

// TestFaults: persistence that fails at times is survived, and is seen to have failed.
func TestFaults(t *testing.T) {
	t.Parallel()
	port, err := freeport.Find()
	require.NoError(t, err)
	metrics := "127.0.0.1:" + strconv.Itoa(port)
	s := start(t, temporal.Settings{FaultRate: 0.1, MetricsAddr: metrics})
	c, err := client.Dial(client.Options{HostPort: s.TemporalAddr()})
	require.NoError(t, err)
	defer c.Close()
	var starts sync.WaitGroup
	for i := range 60 {
		starts.Go(func() {
			for attempt := range 100 {
				_, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: strconv.Itoa(i), TaskQueue: "nobody"}, "Nothing")
				if err == nil {
					return
				}
				if attempt == 99 {
					t.Errorf("workflow %d: %v", i, err)
				}
			}
		})
	}
	starts.Wait()
	response, err := http.Get("http://" + metrics + "/metrics")
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Regexp(t, `persistence_error_with_type\{error_type="persistence_TimeoutError",[^}]*operation="CreateWorkflowExecution"`, string(body))
}

// TestWatch takes a server that does not work for dead, and only that one.
func TestWatch(t *testing.T) {
	t.Parallel()
	s := start(t, temporal.Settings{})
	var databaseAway bool
	watch := func(limit time.Duration) string {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		return temporal.Watchdog{Addr: s.TemporalAddr(), Patience: 2 * time.Second, Database: func(context.Context) error {
			if databaseAway {
				return context.DeadlineExceeded
			}
			return nil
		}}.Watch(ctx)
	}
	require.Empty(t, watch(time.Second), "it works")

	require.NoError(t, s.Temporal.Signal(syscall.SIGSTOP))
	databaseAway = true
	require.Empty(t, watch(3*time.Second), "without a database no server can work")
	databaseAway = false
	began := time.Now()
	require.Contains(t, watch(time.Minute), "has not worked for")
	require.Greater(t, time.Since(began), 2*time.Second)
	require.NoError(t, s.Temporal.Signal(syscall.SIGCONT))
	require.Empty(t, watch(time.Second), "it works again")
}
