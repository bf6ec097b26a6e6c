package supervise

import (
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// Self is this program as a child with the given arguments, writing to log.
func Self(log *os.File, args ...string) (*exec.Cmd, error) { return Program(log, "", args...) }

// Program is a program as a child with the given arguments, writing to log; this one when path is empty.
func Program(log *os.File, path string, args ...string) (cmd *exec.Cmd, err error) {
	name := path
	if path == "" {
		name = os.Args[0]
		if path, err = self(); err != nil {
			return nil, err
		}
	}
	cmd = exec.Command(path, args...) //nolint:gosec,noctx // of ours; Process ends it
	cmd.Args[0] = name
	cmd.Stdout, cmd.Stderr = log, log
	return cmd, nil
}

// WithDefaults is env with those variables that it does not name.
func WithDefaults(env []string, defaults map[string]string) []string {
	given := map[string]bool{}
	for _, variable := range env {
		name, _, _ := strings.Cut(variable, "=")
		given[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(defaults)) {
		if !given[name] {
			env = append(env, name+"="+defaults[name])
		}
	}
	return env
}
