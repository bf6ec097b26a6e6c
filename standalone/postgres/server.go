package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mathub/webhooks/standalone/supervise"
)

// User is the server's superuser and the only role.
const User = "mathub"

// StopSignal asks the server for a fast shutdown: clients are cut off, what was committed is on disk.
const StopSignal = syscall.SIGINT

// Postgres's codes of errors, from its appendix A.
const (
	invalidPassword   = "28P01"
	duplicateDatabase = "42P04"
)

// Config describes a server.
type Config struct {
	// Dir is the data folder, made if it is missing; its parent must exist.
	Dir string
	// Host is the IP address on which the server listens; 127.0.0.1 when empty.
	Host string
	// Port on Host.
	Port int
	// Networks are those from which clients and standbys may connect beside this machine, such as 10.44.0.0/16. They are set when
	// the data folder is made.
	Networks []string
	// Thread starts the server's programs, see supervise.Options; any thread when nil. The caller starts the server itself.
	Thread *supervise.Thread
	// Dial connects to the server; from this process's network when nil.
	Dial pgconn.DialFunc
	// Password of User. It is set when the data folder is made and must be the same ever after.
	Password string
	// Log gets what the server and its programs write.
	Log *os.File
	// Throwaway gives up the promise to survive a crash of the machine, for speed: for tests.
	Throwaway bool
	// Settings go over the defaults, by their names in postgresql.conf.
	Settings map[string]string
	// Cache is where fetched programs are kept; the user's cache folder, or for root /var/cache, when empty.
	Cache string
	// Repository is the Maven repository from which programs are fetched; Maven Central when empty.
	Repository string
	// checksums are those of the archives in a test's repository; the released ones' when empty.
	checksums string
	// Say tells of what takes long, such as a download; may be nil.
	Say func(string)
}

func (c Config) say(format string, args ...any) {
	if c.Say != nil {
		c.Say(fmt.Sprintf(format, args...))
	}
}

func (c Config) host() string { return cmp.Or(c.Host, "127.0.0.1") }

// Server is a Postgres with its data folder, ready to be started.
type Server struct {
	config   Config
	user     account
	programs programs
	dir      *os.File
}

// Prepare finds Postgres's programs, makes the data folder if there is none, and stops a server that a killed parent may
// have left running on it. The caller must see to it that it alone uses the folder.
func Prepare(ctx context.Context, config Config) (*Server, error) {
	user, err := chooseAccount(config.Dir)
	if err != nil {
		return nil, err
	}
	major, err := dataMajor(config.Dir)
	if err != nil {
		return nil, err
	}
	found, err := locate(ctx, config, user, major)
	if err != nil {
		return nil, err
	}
	c := &Server{config: config, user: user, programs: found}
	if major == 0 {
		if err := c.initialise(ctx); err != nil {
			return nil, err
		}
	}
	if c.dir, err = os.Open(config.Dir); err != nil {
		return nil, err
	}
	if err := c.stopLeftOver(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Close lets go of the folder. It does not stop a server.
func (p *Server) Close() error { return p.dir.Close() }

// Version of the programs, such as 15.13.
func (p *Server) Version() string { return p.programs.version }

// Programs is the folder of Postgres's programs, such as pg_ctl.
func (p *Server) Programs() string { return p.programs.dir }

// SetPort changes the port with which the server is started next.
func (p *Server) SetPort(port int) { p.config.Port = port }

// URL is how a client reaches a database of the server.
func (p *Server) URL(database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(User, p.config.Password),
		Host:     net.JoinHostPort(p.config.host(), strconv.Itoa(p.config.Port)),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// maxSocketPath is how long a socket's path may be: the field of sockaddr_un on Linux and macOS, see unix(7).
const maxSocketPath = 103

// LocalURL is URL for a client on this machine: by the server's socket, a quarter quicker than loopback, where it has one.
func (p *Server) LocalURL(database string) string {
	dir, err := filepath.Abs(p.config.Dir)
	if err != nil || !hasSocket(dir) {
		return p.URL(database)
	}
	return p.URL(database) + "&host=" + url.QueryEscape(dir)
}

// hasSocket says whether a server has a socket in dir: not where its path is too long, or has a comma, which separates folders for
// the server and hosts for clients.
func hasSocket(dir string) bool {
	return len(dir)+len("/.s.PGSQL.65535") <= maxSocketPath && !strings.Contains(dir, ",")
}

// dataMajor is the major version of the data in dir, 0 when there is none.
func dataMajor(dir string) (int, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "PG_VERSION")) //nolint:gosec // the caller's own folder
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return 0, fmt.Errorf("%s holds no Postgres data that can be read: PG_VERSION is %q", dir, raw)
	}
	return major, nil
}

// initialise makes the data folder beside its place and moves it there when it is whole: a crash leaves no half of one.
func (p *Server) initialise(ctx context.Context) error {
	if entries, err := os.ReadDir(p.config.Dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty and holds no Postgres data: move it away and start again", p.config.Dir)
	}
	making := p.config.Dir + ".new"
	if err := os.RemoveAll(making); err != nil {
		return err
	}
	if err := os.Mkdir(making, 0o700); err != nil {
		return err
	}
	if err := p.user.owns(making); err != nil {
		return err
	}
	dir, err := os.Open(making) //nolint:gosec // just made
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // a folder, opened to be read
	password, err := os.CreateTemp(filepath.Dir(making), "postgres-password-*")
	if err != nil {
		return err
	}
	defer os.Remove(password.Name()) //nolint:errcheck // nothing can be done about it
	defer password.Close()           //nolint:errcheck // written and read already
	if _, err := password.WriteString(p.config.Password + "\n"); err != nil {
		return err
	}
	if err := p.user.owns(password.Name()); err != nil {
		return err
	}
	cmd := p.command(ctx, "initdb")
	cmd.Args = append(cmd.Args,
		"--pgdata", p.user.lend(cmd, dir),
		"--pwfile", p.user.lend(cmd, password),
		"--username", User,
		"--auth", "scram-sha-256",
		// The same order of text and the same messages on every machine, and the fastest comparison.
		"--no-locale", "--encoding", "UTF8",
	)
	if p.config.Throwaway {
		cmd.Args = append(cmd.Args, "--no-sync")
	}
	if err := p.run(cmd); err != nil {
		return err
	}
	if err := p.admitNetworks(making); err != nil {
		return err
	}
	// An empty folder may be in the way, which os.Rename replaces only if it is asked as rename(2) is.
	if err := os.Remove(p.config.Dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(making, p.config.Dir)
}

// admitNetworks lets clients and standbys of the configured networks in, with the password.
func (p *Server) admitNetworks(dir string) error {
	if len(p.config.Networks) == 0 {
		return nil
	}
	file, err := os.OpenFile(filepath.Join(dir, "pg_hba.conf"), os.O_APPEND|os.O_WRONLY, 0) //nolint:gosec // just made
	if err != nil {
		return err
	}
	for _, network := range p.config.Networks {
		for _, database := range []string{"all", "replication"} {
			if _, err := fmt.Fprintf(file, "host %s all %s scram-sha-256\n", database, network); err != nil {
				return errors.Join(err, file.Close())
			}
		}
	}
	return file.Close()
}

// settings are what the server starts with. They are given again at each start, so that a new version's take effect.
func (p *Server) settings() map[string]string {
	s := map[string]string{ //nolint:gosec // no credentials among them
		"listen_addresses":    p.config.host(),
		"port":                strconv.Itoa(p.config.Port),
		"password_encryption": "scram-sha-256",

		// Temporal's four services and the product each keep pools of their own.
		"max_connections": "300",
		"shared_buffers":  "128MB",
		// Checkpoints write whole pages again: seldom is cheaper, and a crash then replays at most this much.
		"max_wal_size":       "4GB",
		"checkpoint_timeout": "15min",
		"random_page_cost":   "1.1", // no spinning disks
		"jit":                "off", // compiles for longer than these queries run
		// Both Temporal's tables and ours live by many short-lived rows.
		"autovacuum_naptime":              "15s",
		"autovacuum_vacuum_scale_factor":  "0.05",
		"autovacuum_analyze_scale_factor": "0.05",
		"autovacuum_vacuum_cost_delay":    "1ms",

		"timezone":        "UTC",
		"log_timezone":    "UTC",
		"log_line_prefix": "%m [%p] %d ",
		"log_checkpoints": "off",
	}
	if p.config.Throwaway {
		s["fsync"], s["synchronous_commit"], s["full_page_writes"] = "off", "off", "off"
	}
	for name, value := range p.config.Settings {
		s[name] = value
	}
	return s
}

// Command is the server, to be started as a child. Its folder is this process's own to lock.
func (p *Server) Command() *exec.Cmd {
	cmd := p.command(context.Background(), "postgres")
	dir := p.user.lend(cmd, p.dir)
	cmd.Args = append(cmd.Args, "-D", dir)
	settings := p.settings()
	settings["unix_socket_directories"] = ""
	if hasSocket(dir) {
		settings["unix_socket_directories"] = dir // which its owner alone can enter, and root
	}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		cmd.Args = append(cmd.Args, "-c", name+"="+settings[name])
	}
	return cmd
}

// Control runs pg_ctl on the data folder, such as Control(ctx, "stop", "-m", "immediate").
func (p *Server) Control(ctx context.Context, action string, args ...string) error {
	cmd := p.command(ctx, "pg_ctl")
	cmd.Args = append(append(cmd.Args, action, "--pgdata", p.user.lend(cmd, p.dir)), args...)
	return p.run(cmd)
}

func (p *Server) command(ctx context.Context, program string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.programs.path(program)) //nolint:gosec // found by find
	cmd.Dir = "/"                                             // the user may not be allowed in ours
	cmd.Stdout, cmd.Stderr = p.config.Log, p.config.Log
	// PGDATA, PGPORT and their like would speak of another server.
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PG") }), "LC_ALL=C")
	p.user.runs(cmd)
	return cmd
}

func (p *Server) run(cmd *exec.Cmd) error {
	start := cmd.Start
	if p.config.Thread != nil {
		start = func() error { return p.config.Thread.Do(cmd.Start) }
	}
	err := start()
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("%s: %w: see %s", filepath.Base(cmd.Path), err, p.config.Log.Name())
	}
	return nil
}

// stopLeftOver stops the server that was started on this folder by a parent that is gone.
func (p *Server) stopLeftOver(ctx context.Context) error {
	pidFile := filepath.Join(p.config.Dir, "postmaster.pid")
	raw, err := os.ReadFile(pidFile) //nolint:gosec // the caller's own folder
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(string(raw), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 1 || !serves(pid, p.config.Dir) {
		// Left by a crash, its number perhaps another process's by now, at which Postgres would refuse to start.
		if err := os.Remove(pidFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	p.config.say("stopping the one that a killed run left behind")
	if err := p.Control(ctx, "stop", "--mode", "fast", "--wait", "--timeout", "30"); err == nil || !serves(pid, p.config.Dir) {
		return nil
	}
	return p.Control(ctx, "stop", "--mode", "immediate", "--wait", "--timeout", "30")
}
