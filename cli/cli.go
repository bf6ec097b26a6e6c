// Package cli holds the subcommands of operators and scripts: migrations, bots and their keys, keysets; those of bot
// developers, which are clients of the API: webhooks, listen, trigger; and emit and the relay, clients of it too, which stand on
// none of the service's parts. What serves is wired in main.
package cli

import (
	"encoding/json"
	"fmt"
	"os"
)

// DatabaseFlags say where Postgres is.
type DatabaseFlags struct {
	DatabaseURL string `name:"database-url" env:"MATHUB_DATABASE_URL" required:"" help:"Postgres, such as postgres://user:password@host/mathub."`
}

// KeysetFlags hold the keys that encrypt webhook URLs and secrets.
type KeysetFlags struct {
	Keyset string `env:"MATHUB_KEYSET" required:"" help:"The keys that encrypt webhook URLs and secrets, as \"keyset new\" printed them."`
}

// printed writes v as JSON for machines, or the one line that a person, or a shell variable, wants.
func printed(asJSON bool, v any, line string) error {
	if !asJSON {
		fmt.Println(line)
		return nil
	}
	return json.NewEncoder(os.Stdout).Encode(v)
}
