package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// What follows keeps another user from choosing what this program reads, overwrites or gives away, which is worst for root: a
// folder that someone else owns or may write to can hold a link in place of each file, and be exchanged for another.

// checkPath checks the folders on the way to path, as far as they exist, and with them every link.
func checkPath(path string) error {
	for dir := path; ; dir = filepath.Dir(dir) {
		info, err := os.Lstat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist): // it is made
		case err != nil:
			return err
		case info.Mode()&fs.ModeSymlink != 0:
			if err := checkLink(dir, info); err != nil {
				return err
			}
		case dir != path:
			if sticky, err := checkParent(dir, info); sticky || err != nil {
				return err
			}
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// checkLink checks a link that leads to the data folder, and where it leads.
func checkLink(link string, info fs.FileInfo) error {
	if uid := ownerOf(info); uid != 0 && uid != os.Geteuid() {
		return fmt.Errorf("%s is a symbolic link of user %d", link, uid)
	}
	real, err := filepath.EvalSymlinks(link)
	if err != nil {
		return err
	}
	return checkPath(real)
}

// checkParent checks a folder above the data folder. Above a sticky one, such as /tmp, nobody else can touch what is in it.
func checkParent(dir string, info fs.FileInfo) (sticky bool, err error) {
	uid := ownerOf(info)
	switch {
	case os.Geteuid() == 0 && uid != 0:
		return false, fmt.Errorf("it is in %s, which belongs to user %d, and this is root: start it as that user", dir, uid)
	case info.Mode()&fs.ModeSticky != 0:
		return true, nil
	case openToOthers(info):
		return false, fmt.Errorf("it is in %s, which other users may write to (mode %v)", dir, info.Mode().Perm())
	}
	return false, nil
}

// openToOthers: a group may write to an ordinary user's folder, as it is the user's own group on many systems.
func openToOthers(info fs.FileInfo) bool {
	mode := info.Mode().Perm()
	return mode&0o002 != 0 || mode&0o020 != 0 && os.Geteuid() == 0 && groupOf(info) != 0
}

// checkFolder checks the data folder itself, and all that is in it and in its folder of logs: nobody else can have put it there.
func checkFolder(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if uid := ownerOf(info); uid != os.Geteuid() {
		return fmt.Errorf("it belongs to user %d, and this is user %d", uid, os.Geteuid())
	}
	if openToOthers(info) {
		return fmt.Errorf("other users may write to it (mode %v)", info.Mode().Perm())
	}
	for _, dir := range []string{path, filepath.Join(path, logsFolder)} {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if err := checkEntry(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkEntry(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) { // a process that just ended has removed it
		return nil
	}
	if err != nil {
		return err
	}
	stat, _ := info.Sys().(*syscall.Stat_t)
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("%s is a symbolic link", path)
	case info.Mode().IsRegular() && stat.Nlink > 1:
		return fmt.Errorf("%s is a file that has other names (hard links) elsewhere", path)
	case !info.IsDir() && !info.Mode().IsRegular():
		return fmt.Errorf("%s is neither a file nor a folder", path)
	case int(stat.Uid) != os.Geteuid() && !isCluster(filepath.Base(path)):
		return fmt.Errorf("%s belongs to user %d", path, stat.Uid)
	case openToOthers(info):
		return fmt.Errorf("other users may write to %s (mode %v)", path, info.Mode().Perm())
	}
	return nil
}

// isCluster: root's Postgres runs as another user, who owns its cluster, and in passing the file with its password.
func isCluster(name string) bool {
	return os.Geteuid() == 0 && strings.HasPrefix(name, postgresFolder)
}

func ownerOf(info fs.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }

func groupOf(info fs.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Gid) }
