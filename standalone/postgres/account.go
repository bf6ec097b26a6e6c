package postgres

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"syscall"
)

// account is the user that Postgres's programs run as. The zero account is this process's own.
type account struct {
	switched bool
	uid, gid uint32
	name     string
}

// chooseAccount returns this process's own user, or, as Postgres refuses to run as root, for root another one: the
// owner of the data in dir where there is one, else postgres, else nobody.
func chooseAccount(dir string) (account, error) {
	if os.Geteuid() != 0 {
		return account{}, nil
	}
	if runtime.GOOS != "linux" {
		return account{}, errors.New("Postgres does not run as root: start this program as an ordinary user") //nolint:staticcheck // a name
	}
	if info, err := os.Stat(dir); err == nil {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Uid != 0 {
			return account{switched: true, uid: stat.Uid, gid: stat.Gid, name: strconv.Itoa(int(stat.Uid))}, nil
		}
	}
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(found.Uid, 10, 32)
		if err != nil || uid == 0 {
			continue
		}
		gid, err := strconv.ParseUint(found.Gid, 10, 32)
		if err != nil {
			continue
		}
		return account{switched: true, uid: uint32(uid), gid: uint32(gid), name: name}, nil
	}
	// Linux's number for nobody; a user needs no entry in passwd to run a program.
	return account{switched: true, uid: 65534, gid: 65534, name: "65534"}, nil
}

// runs lets cmd run as this user, with none of root's groups.
func (a account) runs(cmd *exec.Cmd) {
	if !a.switched {
		return
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
}

// owns gives path to this user.
func (a account) owns(path string) error {
	if !a.switched {
		return nil
	}
	if err := os.Chown(path, int(a.uid), int(a.gid)); err != nil {
		return fmt.Errorf("give %s to user %s: %w", path, a.name, err)
	}
	return nil
}

// lend adds an open file or folder to cmd and returns the path under which cmd can reach it.
//
// A clone under /root is the usual case of a user that may own a folder but not walk the path to it. An inherited
// descriptor's entry in /proc leads straight there, for the program and for all that it starts. (The same by a current
// folder does not do: Postgres up to 15 changes folders when it starts and returns by the path.)
func (a account) lend(cmd *exec.Cmd, file *os.File) string {
	if !a.switched {
		return file.Name()
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, file)
	return fmt.Sprintf("/proc/self/fd/%d", 2+len(cmd.ExtraFiles))
}
