package postgres

import (
	"fmt"
	"os"
)

// serves says whether pid is a Postgres server on dir: its current folder is its cluster's.
func serves(pid int, dir string) bool {
	current, err := os.Stat(fmt.Sprintf("/proc/%d/cwd", pid))
	if err != nil {
		return false
	}
	cluster, err := os.Stat(dir)
	return err == nil && os.SameFile(current, cluster)
}
