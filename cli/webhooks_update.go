package cli

import (
	"context"
	"fmt"
	"io"
	"reflect"
	"strings"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/webhook"
)

type webhooksUpdateCommand struct {
	BotFlags
	outputFlags
	webhookArg
	URL           string   `help:"A new URL."`
	Name          string   `xor:"name" help:"A new name."`
	NoName        bool     `xor:"name" help:"Remove the name."`
	Events        []string `help:"The new list of event types."`
	Filter        []string `xor:"filter" sep:"none" placeholder:"FIELD=VALUE,…" help:"The new filter: only events whose data has one of these values in the field. May be repeated: all must match."`
	NoFilter      bool     `xor:"filter" help:"Remove the filter."`
	Secret        string   `xor:"secret" help:"A new secret."`
	SecretOverlap string   `help:"With --secret: how long the previous secret signs too, such as 24h."`
	NoSecret      bool     `xor:"secret" help:"Remove the secret."`
	Header        []string `sep:"none" placeholder:"NAME:VALUE" help:"A header that each delivery carries, new or with another value. May be repeated."`
	RemoveHeader  []string `placeholder:"NAME" help:"A header that deliveries no longer carry. May be repeated."`
	Ordered       bool     `xor:"ordered" help:"Make deliveries one at a time, in the order of acceptance."`
	NotOrdered    bool     `xor:"ordered" help:"Make deliveries as they come."`
	Enable        bool     `xor:"active" help:"Enable the webhook, with a failure count of 0."`
	Disable       bool     `xor:"active" help:"Disable the webhook."`
}

func (c *webhooksUpdateCommand) Run(ctx context.Context) error {
	headers, err := headersOf(c.Header, c.RemoveHeader)
	if err != nil {
		return err
	}
	change := mathub.WebhookChange{URL: c.URL, SecretOverlap: c.SecretOverlap, Events: eventTypes(c.Events), Headers: headers}
	if c.Name != "" {
		change.Name.Set(c.Name)
	}
	if c.Secret != "" {
		change.Secret.Set(c.Secret)
	}
	filter, err := filterOf(c.Filter)
	if err != nil {
		return err
	}
	if filter != nil {
		change.Filter.Set(filter)
	}
	if c.NoFilter {
		change.Filter.SetNull()
	}
	if c.NoName {
		change.Name.SetNull()
	}
	if c.NoSecret {
		change.Secret.SetNull()
	}
	change.IsActive, change.Ordered = eitherOf(&c.Enable, c.Disable), eitherOf(&c.Ordered, c.NotOrdered)
	if reflect.ValueOf(change).IsZero() {
		return usageError{fmt.Errorf("nothing to change; give --url, --name, --no-name, --events, --filter, --no-filter, --secret, --no-secret, --header, --remove-header, --ordered, --not-ordered, --enable or --disable")}
	}
	api, err := c.client()
	if err != nil {
		return err
	}
	answer, err := api.UpdateWebhook(ctx, c.ID, change)
	if err != nil {
		return err
	}
	return c.webhooks(answer.Body, answer.Value)
}

// eitherOf is what one of two flags says: set, or its opposite; nil: neither is given.
func eitherOf(set *bool, unset bool) *bool {
	if !*set && !unset {
		return nil
	}
	return set
}

// headersOf are the headers that are to be set, each as "Name: value", and removed. It is nil for none.
func headersOf(set, remove []string) (mathub.CustomHeaders, error) {
	headers := mathub.CustomHeaders{}
	for _, line := range set {
		name, value, ok := webhook.ParseHeaderLine(line)
		if !ok {
			return nil, usageError{fmt.Errorf("--header needs \"Name: value\"")}
		}
		if _, twice := headers[name]; twice {
			return nil, usageError{fmt.Errorf("--header has %s twice", name)}
		}
		headers[name] = &value
	}
	for _, name := range remove {
		if _, set := headers[name]; set {
			return nil, usageError{fmt.Errorf("--header sets %s, which --remove-header removes", name)}
		}
		headers[name] = nil
	}
	if len(headers) == 0 {
		return nil, nil
	}
	return headers, nil
}

type webhooksSigningKeyCommand struct {
	BotFlags
	outputFlags
	webhookArg
	Overlap string `xor:"remove" help:"How long the key before signs too, such as 1h. Default: 24h."`
	Remove  bool   `xor:"remove" help:"Remove the key pair."`
}

// Run prints the public keys, the present one first.
func (c *webhooksSigningKeyCommand) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	if c.Remove {
		return api.RemoveSigningKey(ctx, c.ID)
	}
	answer, err := api.RotateSigningKey(ctx, c.ID, &mathub.KeyRotation{Overlap: c.Overlap})
	if err != nil {
		return err
	}
	return c.show(answer.Body, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, strings.Join(answer.Value.PublicKeys, "\n"))
		return err
	})
}
