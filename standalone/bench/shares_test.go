package bench_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// groupPrefix begins the names of the control groups that this package makes.
const groupPrefix = "mathub-bench-"

// controller is Linux's control of processor time, in the first or the second version of control groups.
type controller struct {
	root string // the folder of all groups
	home string // the group of this process
	v2   bool
}

// findController finds what is mounted here. It fails where groups cannot be made: a measurement without shares says nothing.
func findController(t *testing.T) *controller {
	t.Helper()
	c := &controller{root: "/sys/fs/cgroup/cpu"}
	if _, err := os.Stat(filepath.Join(c.root, "cpu.cfs_quota_us")); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("control groups: %v", err)
	} else if err != nil {
		c.root, c.v2 = "/sys/fs/cgroup", true
		controllers, err := os.ReadFile(filepath.Join(c.root, "cgroup.controllers"))
		if err != nil || !strings.Contains(" "+strings.TrimSpace(string(controllers))+" ", " cpu ") {
			t.Fatalf("processes cannot be given shares of a core: Linux's cpu controller is missing, in /sys/fs/cgroup/cpu and in %s/cgroup.controllers (%q, %v)", c.root, controllers, err)
		}
		if err := os.WriteFile(filepath.Join(c.root, "cgroup.subtree_control"), []byte("+cpu"), 0o600); err != nil {
			t.Fatalf("processes cannot be given shares of a core: the cpu controller cannot be enabled for groups: %v", err)
		}
	}
	c.home = filepath.Join(c.root, c.ownGroup(t))
	left, err := filepath.Glob(filepath.Join(c.root, groupPrefix+"*"))
	require.NoError(t, err)
	for _, folder := range left {
		_ = os.Remove(folder) // of a run that was killed; it stays where another run has processes in it
	}
	return c
}

// ownGroup is this process's group, as /proc/self/cgroup names it: see cgroups(7).
func (c *controller) ownGroup(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile("/proc/self/cgroup")
	require.NoError(t, err)
	for line := range strings.Lines(string(content)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		if c.v2 && fields[1] == "" || !c.v2 && strings.Contains(","+fields[1]+",", ",cpu,") {
			return fields[2]
		}
	}
	t.Fatalf("/proc/self/cgroup does not name this process's group of the cpu controller:\n%s", content)
	return ""
}

// group is a control group whose processes share a part of a core.
type group struct {
	*controller

	folder string
}

// newGroup makes a group without a limit. The test's end removes it, and gives its processes back to this process's group.
func (c *controller) newGroup(t *testing.T, name string) *group {
	t.Helper()
	g := &group{c, filepath.Join(c.root, fmt.Sprintf("%s%d-%s", groupPrefix, os.Getpid(), name))}
	require.NoError(t, os.Mkdir(g.folder, 0o755))
	t.Cleanup(func() {
		for pids := g.processes(t); len(pids) > 0; pids = g.processes(t) { // they may start others
			for _, pid := range pids {
				require.NoError(t, move(filepath.Join(c.home, "cgroup.procs"), pid))
			}
		}
		require.NoError(t, os.Remove(g.folder))
	})
	// Other work on the machine gets what is left.
	if c.v2 {
		g.write(t, "cpu.weight", "10000")
	} else {
		g.write(t, "cpu.shares", "262144")
	}
	return g
}

// limit gives the processes that many cores, counted anew each period.
func (g *group) limit(t *testing.T, cores float64, period time.Duration) {
	t.Helper()
	quota := strconv.Itoa(int(cores * float64(period.Microseconds())))
	length := strconv.FormatInt(period.Microseconds(), 10)
	if g.v2 {
		g.write(t, "cpu.max", quota+" "+length)
		return
	}
	g.write(t, "cpu.cfs_quota_us", "-1") // a long period with a small quota, or the other way round, may be refused
	g.write(t, "cpu.cfs_period_us", length)
	g.write(t, "cpu.cfs_quota_us", quota)
}

// free takes the limit away.
func (g *group) free(t *testing.T) {
	t.Helper()
	if g.v2 {
		g.write(t, "cpu.max", "max")
	} else {
		g.write(t, "cpu.cfs_quota_us", "-1")
	}
}

// add puts processes into the group. Those that they start are in it by themselves.
func (g *group) add(t *testing.T, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		require.NoError(t, move(filepath.Join(g.folder, "cgroup.procs"), pid))
	}
}

func (g *group) processes(t *testing.T) (pids []int) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(g.folder, "cgroup.procs"))
	require.NoError(t, err)
	for _, field := range strings.Fields(string(content)) {
		pid, err := strconv.Atoi(field)
		require.NoError(t, err)
		pids = append(pids, pid)
	}
	return pids
}

// move puts a process into a group. One that has ended needs none.
func move(to string, pid int) error {
	if err := os.WriteFile(to, []byte(strconv.Itoa(pid)), 0o600); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

func (g *group) write(t *testing.T, file, value string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(g.folder, file), []byte(value), 0o600), "%s: %s", file, value)
}

// throttling is how many periods the group's processes had work in, and in how many of them they were stopped at the limit.
type throttling struct{ periods, stopped float64 }

func (g *group) throttling(t *testing.T) (th throttling) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(g.folder, "cpu.stat"))
	require.NoError(t, err)
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		for name, value := range map[string]*float64{"nr_periods": &th.periods, "nr_throttled": &th.stopped} {
			if len(fields) == 2 && fields[0] == name {
				*value, err = strconv.ParseFloat(fields[1], 64)
				require.NoError(t, err)
			}
		}
	}
	return th
}

// since is the part of the periods since before in which the processes were stopped.
func (th throttling) since(before throttling) float64 {
	if th.periods == before.periods {
		return 0
	}
	return (th.stopped - before.stopped) / (th.periods - before.periods)
}

// TestSharesOfACore: a process gets what its group has, and the group is gone afterwards.
func TestSharesOfACore(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make control groups")
	}
	var folder string
	t.Run("a busy process", func(t *testing.T) {
		g := findController(t).newGroup(t, "busy")
		folder = g.folder
		g.limit(t, 0.1, narrowPeriod)
		busy := exec.Command("sh", "-c", "while :; do :; done")
		require.NoError(t, busy.Start())
		t.Cleanup(func() {
			_ = busy.Process.Kill()
			_ = busy.Wait() // it was killed
		})
		pid := busy.Process.Pid
		g.add(t, pid)
		require.Equal(t, []int{pid}, g.processes(t))
		require.Eventually(t, func() bool { return g.throttling(t).periods >= 20 }, time.Minute, 20*time.Millisecond)
		require.Greater(t, g.throttling(t).since(throttling{}), 0.5)
	})
	require.NoDirExists(t, folder)
}
