package db_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
)

const write = "INSERT INTO bots (id, name) VALUES (gen_random_uuid()::text, 'bot')"

// TestAPoolLeavesAReadOnlyServer: while new sessions could not write, none is kept, and each that was made before is left
// once it is refused.
func TestAPoolLeavesAReadOnlyServer(t *testing.T) {
	t.Parallel()
	target := dbtest.NewURL(t)
	admin, err := pgx.Connect(t.Context(), os.Getenv("MATHUB_TEST_DATABASE_URL"))
	require.NoError(t, err)
	defer admin.Close(context.Background()) //nolint:errcheck // done with it
	name := databaseOf(t, target)
	pool, err := db.Open(t.Context(), target)
	require.NoError(t, err)
	defer pool.Close()
	check := db.NewWriteCheck(pool)
	require.NoError(t, check.Check(t.Context()))

	_, err = admin.Exec(t.Context(), fmt.Sprintf("ALTER DATABASE %s SET default_transaction_read_only = on", name))
	require.NoError(t, err)
	_, err = admin.Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
	require.NoError(t, err)
	require.Eventually(t, func() bool { _, err = pool.Exec(t.Context(), write); return err != nil }, time.Minute, 10*time.Millisecond)
	_, err = pool.Exec(t.Context(), "SELECT 1")
	require.ErrorIs(t, err, db.ErrReadOnly, "no session is made that could not write")
	require.True(t, db.IsUnavailable(err), "%v", err)
	require.Eventually(t, func() bool { return check.Check(t.Context()) != nil }, time.Minute, 50*time.Millisecond)
	_, err = db.Open(t.Context(), target)
	require.ErrorIs(t, err, db.ErrReadOnly)

	_, err = admin.Exec(t.Context(), fmt.Sprintf("ALTER DATABASE %s RESET default_transaction_read_only", name))
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), write)
	require.NoError(t, err)

	// A server that is turned read-only under its sessions.
	for range 3 {
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
		require.NoError(t, err)
		conn.Release()
	}
	_, err = pool.Exec(t.Context(), write)
	require.True(t, db.IsUnavailable(err), "%v", err)
	_, err = pool.Exec(t.Context(), write)
	require.NoError(t, err, "the session was left")
}

// TestAServerThatHangsIsNoticed: neither a statement in progress nor a connection attempt waits for it, and once it answers all
// is well again. Of two servers the other is used meanwhile.
func TestAServerThatHangsIsNoticed(t *testing.T) {
	t.Parallel()
	target := dbtest.NewURL(t)
	for name, standby := range map[string]bool{"the only one": false, "one of two": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, second := newFreezer(t, target), newFreezer(t, target)
			pool, err := db.Open(t.Context(), first.url(t, target, second))
			require.NoError(t, err)
			defer pool.Close()
			slow := make(chan error, 1)
			go func() { // what takes long is not given up
				_, err := pool.Exec(context.Background(), "SELECT pg_sleep(6)")
				slow <- err
			}()
			require.NoError(t, <-slow)
			first.freeze()
			if !standby {
				second.freeze()
			}
			began := time.Now()
			_, err = pool.Exec(context.Background(), write)
			require.Error(t, err)
			require.True(t, db.IsUnavailable(err), "%v", err)
			require.Less(t, time.Since(began), time.Minute, "some 5 s, on a machine with time for it")
			if !standby {
				first.thaw()
			}
			require.Eventually(t, func() bool { _, err := pool.Exec(context.Background(), write); return err == nil },
				time.Minute, 20*time.Millisecond, "it works again")
		})
	}
}

// TestTheWatchCutsNoGoodConnection: the watch's own session is lost, and another host hangs or can be written to, which says
// nothing of the host in use.
func TestTheWatchCutsNoGoodConnection(t *testing.T) {
	t.Parallel()
	admin, err := pgxpool.New(t.Context(), os.Getenv("MATHUB_TEST_DATABASE_URL"))
	require.NoError(t, err)
	t.Cleanup(admin.Close)
	for name, lose := range map[string]func(t *testing.T, database string, other *freezer){
		"another hangs, and it takes no more sessions": func(t *testing.T, database string, _ *freezer) {
			_, err := admin.Exec(t.Context(), fmt.Sprintf("ALTER DATABASE %s ALLOW_CONNECTIONS false", database))
			require.NoError(t, err)
		},
		"another can write": func(_ *testing.T, _ string, other *freezer) { other.thaw() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := dbtest.NewURL(t)
			other, inUse := newFreezer(t, target), newFreezer(t, target)
			other.freeze()
			pool, err := db.Open(t.Context(), other.url(t, target, inUse))
			require.NoError(t, err)
			defer pool.Close()
			conn, err := pool.Acquire(t.Context())
			require.NoError(t, err)
			defer conn.Release()
			database, pid := databaseOf(t, target), conn.Conn().PgConn().PID()
			const others = "FROM pg_stat_activity WHERE datname = $1 AND pid <> $2 AND backend_type = 'client backend'"
			require.Eventually(t, func() (watched bool) {
				require.NoError(t, admin.QueryRow(t.Context(), "SELECT EXISTS (SELECT "+others+")", database, pid).Scan(&watched))
				return watched
			}, time.Minute, 20*time.Millisecond)
			lose(t, database, other)
			_, err = admin.Exec(t.Context(), "SELECT pg_terminate_backend(pid) "+others, database, pid)
			require.NoError(t, err)
			_, err = conn.Exec(t.Context(), "SELECT pg_sleep(6)") // longer than the watch takes to look again and give up
			require.NoError(t, err)
		})
	}
}

// TestEveryURLWorksOrIsRefused: what pgx cannot send a uuid[] with is refused before anything is done.
func TestEveryURLWorksOrIsRefused(t *testing.T) {
	t.Parallel()
	target := dbtest.NewURL(t)
	for setting, works := range map[string]bool{
		"default_query_exec_mode=cache_statement": true, "default_query_exec_mode=cache_describe": true,
		"default_query_exec_mode=describe_exec": true, "default_query_exec_mode=exec": false,
		"default_query_exec_mode=simple_protocol": false, "statement_cache_capacity=0": true, "description_cache_capacity=0": true,
		"statement_cache_capacity=0&description_cache_capacity=0": true,
		"target_session_attrs=any":                                true, "target_session_attrs=read-write": true, "connect_timeout=7": true,
	} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			set := target + "&" + setting
			if !works {
				require.ErrorContains(t, db.CheckURL(set), "default_query_exec_mode")
				_, err := db.Open(t.Context(), set)
				require.ErrorContains(t, err, "default_query_exec_mode")
				return
			}
			require.NoError(t, db.CheckURL(set))
			pool, err := db.Open(t.Context(), set)
			require.NoError(t, err)
			defer pool.Close()
			tx, err := pool.Begin(t.Context())
			require.NoError(t, err)
			require.NoError(t, db.New().LockWebhooks(t.Context(), tx, db.LockWebhooksParams{}))
			require.NoError(t, tx.Rollback(t.Context()))
		})
	}
}

// TestMigrationsNeedNoSession: behind a pooler, what a transaction sets must end with it.
func TestMigrationsNeedNoSession(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("migrations/*.sql")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		sql, err := os.ReadFile(file)
		require.NoError(t, err)
		if regexp.MustCompile(`(?m)^-- \+goose NO TRANSACTION$`).Match(sql) {
			continue
		}
		ways := regexp.MustCompile(`(?m)^-- \+goose (Up|Down)\n(.*)$`).FindAllSubmatch(sql, -1)
		require.Len(t, ways, 2, file)
		for _, way := range ways {
			require.Equal(t, "SET LOCAL lock_timeout = '1s';", string(way[2]), "%s, %s", file, way[1])
		}
	}
}

func databaseOf(t *testing.T, target string) string {
	cfg, err := pgxpool.ParseConfig(target)
	require.NoError(t, err)
	return cfg.ConnConfig.Database
}

// freezer is a way to Postgres that can be made to hang: connections stay, and nothing goes through.
type freezer struct {
	listener net.Listener
	target   string
	mu       sync.RWMutex // held exclusively while frozen
}

func newFreezer(t *testing.T, target string) *freezer {
	cfg, err := pgx.ParseConfig(target)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := &freezer{listener: listener, target: net.JoinHostPort(cfg.Host, fmt.Sprint(cfg.Port))}
	if cfg.Host[0] == '/' {
		f.target = filepath.Join(cfg.Host, fmt.Sprintf(".s.PGSQL.%d", cfg.Port))
	}
	t.Cleanup(func() { _ = listener.Close() })
	go f.serve()
	return f
}

func (f *freezer) freeze() { f.mu.Lock() }
func (f *freezer) thaw()   { f.mu.Unlock() }

func (f *freezer) serve() {
	network := "tcp"
	if f.target[0] == '/' {
		network = "unix"
	}
	for {
		client, err := f.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial(network, f.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		go f.copy(client, server)
		go f.copy(server, client)
	}
}

func (f *freezer) copy(to, from net.Conn) {
	defer to.Close() //nolint:errcheck // done with it
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		f.mu.RLock()
		_, failed := to.Write(buffer[:n])
		f.mu.RUnlock()
		if err != nil || failed != nil {
			return
		}
	}
}

// url is target by the way of f, then by others.
func (f *freezer) url(t *testing.T, target string, others ...*freezer) string {
	u, err := url.Parse(target)
	require.NoError(t, err)
	u.Host = f.listener.Addr().String()
	for _, other := range others {
		u.Host += "," + other.listener.Addr().String()
	}
	q := u.Query()
	q.Del("host")
	u.RawQuery = q.Encode()
	return u.String()
}
