// Package scratch makes folders for data that nobody keeps, in memory where the machine has room: Postgres makes and drops a
// database there with a quarter of the processor time that a disk's file system takes.
package scratch

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// enough is what a file system in memory must have free: the tests' servers take up to 2 GiB of it.
const enough = 8 << 30

const prefix, lockFile = "mathub-scratch-", ".lock"

// Make makes an empty folder, and returns its path and what removes it. It is in memory, unless TMPDIR says where to put it.
// What a process left that ended without removing it, the next call removes.
func Make() (path string, remove func() error, err error) {
	root := os.TempDir()
	if os.Getenv("TMPDIR") == "" && freeInMemory() >= enough {
		root = memory
	}
	sweep(root)
	unlocked, err := os.MkdirTemp(root, "mathub-new-*") // a name that sweep does not look for
	if err != nil {
		return "", nil, err
	}
	lock, err := hold(filepath.Join(unlocked, lockFile), os.O_CREATE)
	if err == nil {
		path = filepath.Join(root, prefix+strings.TrimPrefix(filepath.Base(unlocked), "mathub-new-"))
		err = os.Rename(unlocked, path)
	}
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(unlocked))
	}
	return path, func() error { return errors.Join(os.RemoveAll(path), lock.Close()) }, nil
}

// sweep removes what ended processes left. What cannot be opened or removed is another user's.
func sweep(root string) {
	folders, _ := filepath.Glob(filepath.Join(root, prefix+"*"))
	for _, folder := range folders {
		lock, err := hold(filepath.Join(folder, lockFile), 0)
		if err != nil {
			continue
		}
		_ = os.RemoveAll(folder)
		_ = lock.Close()
	}
}

// hold opens a file and locks it until it is closed, at the latest when the process ends.
func hold(path string, flag int) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|flag, 0o600) //nolint:gosec // in a folder that Make names
	if err != nil {
		return nil, err
	}
	if err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}
