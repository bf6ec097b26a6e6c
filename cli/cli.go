// Package cli holds the subcommands of operators and scripts: migrations, bots and their keys, keysets; those of bot
// developers, which are clients of the API: webhooks, listen, trigger; and emit and the relay, clients of it too, which stand on
// none of the service's parts. What serves is wired in main.
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
