// Package cli holds the subcommands, except those that serve. Those of operators work on the installation: migrate, bot, keyset,
// fuse, doctor, healthcheck. The others are clients of the API: webhooks, listen, trigger, emit, relay, ops.
package cli

import (
	"encoding/json"
	"fmt"
	"os"
)

// printed writes v as JSON for machines, or the one line that a person, or a shell variable, wants.
func printed(asJSON bool, v any, line string) error {
	if !asJSON {
		fmt.Println(line)
		return nil
	}
	return json.NewEncoder(os.Stdout).Encode(v)
}
