package postgres

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// slot is the replication slot of a primary's one standby. Without it, the primary removes log that a standby that is behind still needs,
// and synchronous commits then wait for good.
const slot = "standby"

// PrepareStandby copies a running primary's data, which must have no other standby, to config.Dir, which must not exist. The server that is
// started on it follows the primary until it is promoted: Control(ctx, "promote").
func PrepareStandby(ctx context.Context, config Config, primary *Server) (*Server, error) {
	c := &Server{config: config, user: primary.user, programs: primary.programs}
	if err := os.Mkdir(config.Dir, 0o700); err != nil {
		return nil, err
	}
	if err := c.user.owns(config.Dir); err != nil {
		return nil, err
	}
	var err error
	if c.dir, err = os.Open(config.Dir); err != nil {
		return nil, err
	}
	cmd := c.command(ctx, "pg_basebackup")
	cmd.Args = append(cmd.Args, "--pgdata", c.user.lend(cmd, c.dir), "--dbname", primary.URL("postgres"), "--checkpoint=fast", "--write-recovery-conf",
		"--create-slot", "--slot", slot,
		"--no-sync") // a copy that a crash of the machine spoils is made again
	if err := c.run(cmd); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	// It says that the primary has the socket in its own folder; of the same port, the copy would not start.
	lock := filepath.Join(config.Dir, ".s.PGSQL."+strconv.Itoa(primary.config.Port)+".lock")
	if err := os.Remove(lock); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}
