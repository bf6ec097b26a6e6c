package postgres

import (
	"fmt"
	"os"
)

// serves says whether pid is a Postgres server on dir: its current folder is its data folder.
func serves(pid int, dir string) bool {
	current, err := os.Stat(fmt.Sprintf("/proc/%d/cwd", pid))
	if err != nil {
		return false
	}
	data, err := os.Stat(dir)
	return err == nil && os.SameFile(current, data)
}
