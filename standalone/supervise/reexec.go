package supervise

import (
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// Self is this program as a child with the given arguments, writing to log.
func Self(log *os.File, args ...string) (*exec.Cmd, error) {
	path, err := self()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, args...) //nolint:gosec,noctx // this program; Process ends it
	cmd.Args[0] = os.Args[0]
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
