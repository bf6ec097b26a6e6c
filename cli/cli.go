// Package cli holds the subcommands of operators and scripts: migrations, bots and their keys, keysets; those of bot
// developers, which are clients of the API: webhooks, listen, trigger; and emit and the relay, clients of it too, which stand on
// none of the service's parts. What serves is wired in main.
package cli

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"

	"github.com/mathub/webhooks/webhook"
)

// DatabaseFlags say where Postgres is.
type DatabaseFlags struct {
	DatabaseURL string `name:"database-url" env:"MATHUB_DATABASE_URL" required:"" help:"Postgres, such as postgres://user:password@host/mathub."`
}

// KeysetFlags hold the keys that encrypt webhook URLs and secrets.
type KeysetFlags struct {
	Keyset string `env:"MATHUB_KEYSET" required:"" help:"The keys that encrypt webhook URLs and secrets, as \"keyset new\" printed them."`
}

// URLFlags say which URLs a webhook, or a notice to a bot's owner, may have.
type URLFlags struct {
	EgressAllow      []netip.Prefix `env:"MATHUB_EGRESS_ALLOW" help:"CIDRs that webhooks may point to although they are private, or this machine's."`
	EgressAllowHTTP  bool           `name:"egress-allow-http" env:"MATHUB_EGRESS_ALLOW_HTTP" help:"Allow http:// webhook URLs."`
	EgressAllowPorts []uint16       `env:"MATHUB_EGRESS_ALLOW_PORTS" help:"Ports that webhooks may have although they belong to other protocols, databases or control planes, such as 9200."`
	EgressNAT64      []netip.Prefix `name:"egress-nat64" env:"MATHUB_EGRESS_NAT64" help:"Prefixes of the network's NAT64 translators, such as 64:ff9b::/96: an address in one is judged by the IPv4 address within."`
}

// Rules are the flags as the rules for URLs.
func (f URLFlags) Rules() webhook.URLRules {
	return webhook.URLRules{Allow: f.EgressAllow, AllowHTTP: f.EgressAllowHTTP, AllowPorts: f.EgressAllowPorts, NAT64: f.EgressNAT64}
}

// printed writes v as JSON for machines, or the one line that a person, or a shell variable, wants.
func printed(asJSON bool, v any, line string) error {
	if !asJSON {
		fmt.Println(line)
		return nil
	}
	return json.NewEncoder(os.Stdout).Encode(v)
}
