package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
)

// walFolder is where a host has the disk of its own for Postgres's write-ahead log. All systems have the folder.
const walFolder = "/mnt"

var redoFile = regexp.MustCompile(`(?m)^Latest checkpoint's REDO WAL file:\s+([0-9A-F]{24})$`)

// MoveWAL restarts the server with its write-ahead log on a disk of its own with so many bytes, in memory, which stays with the host.
// GrowWAL makes it larger.
func (s *Server) MoveWAL(ctx context.Context, bytes int64) error {
	if err := s.Stop(ctx); err != nil {
		return err
	}
	if err := s.SetDisk(walFolder, bytes); err != nil {
		return err
	}
	if err := s.Thread.Do(func() error { return s.moveWAL(ctx) }); err != nil {
		return fmt.Errorf("move the write-ahead log of %s: %w", s.Name, err)
	}
	return s.Start(ctx)
}

// GrowWAL makes the disk of MoveWAL larger.
func (s *Server) GrowWAL(bytes int64) error { return s.SetDisk(walFolder, bytes) }

// moveWAL copies the one segment that a server needs which was stopped in order, as the disk may have no room for more.
func (s *Server) moveWAL(ctx context.Context) error {
	control, err := exec.CommandContext(ctx, filepath.Join(s.postgres.Programs(), "pg_controldata"), s.data).Output() //nolint:gosec // Postgres's
	if err != nil {
		return fmt.Errorf("pg_controldata: %w", err)
	}
	redo := redoFile.FindSubmatch(control)
	if redo == nil {
		return errors.New("pg_controldata does not say where the log begins")
	}
	wal := filepath.Join(s.data, "pg_wal")
	info, err := os.Stat(wal)
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t) //nolint:forcetypeassert // Linux's
	files, err := filepath.Glob(filepath.Join(wal, "*.history"))
	if err != nil {
		return err
	}
	for _, file := range append(files, filepath.Join(wal, string(redo[1]))) {
		if err := copyFile(filepath.Join(walFolder, filepath.Base(file)), file); err != nil {
			return err
		}
	}
	for _, folder := range []string{"archive_status", "summaries"} {
		if err := os.Mkdir(filepath.Join(walFolder, folder), 0o700); err != nil {
			return err
		}
	}
	err = filepath.WalkDir(walFolder, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Chown(path, int(owner.Uid), int(owner.Gid))) //nolint:gosec // a folder of our own
	})
	return errors.Join(err, os.Chmod(walFolder, 0o700), os.RemoveAll(wal), os.Symlink(walFolder, wal)) //nolint:gosec // a folder
}

func copyFile(to, from string) error {
	source, err := os.Open(from) //nolint:gosec // the cluster's
	if err != nil {
		return err
	}
	defer source.Close()                                                     //nolint:errcheck // only read
	target, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // the cluster's
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}
