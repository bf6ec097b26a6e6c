package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/webhook"
)

// opsKeys manages keys of bots, over the service API.
type opsKeys struct {
	List   opsKeysList   `cmd:"" help:"List a bot's keys, oldest first."`
	Find   opsKeysFind   `cmd:"" help:"Find the bot of a leaked key."`
	Revoke opsKeysRevoke `cmd:"" help:"Revoke a key. It stops working at once."`
}

// showKeys writes keys as a table.
func (f outputFlags) showKeys(raw []byte, list []mathub.KeyInfo) error {
	return f.show(raw, func(w io.Writer) error {
		fmt.Fprintln(w, "KEY\tBOT\tNAME\tBEGINS\tCREATED\tBY\tLAST USED") //nolint:errcheck // Flush tells
		for _, k := range list {
			by := strings.TrimSuffix(k.CreatedBy.Kind+" "+orDash(k.CreatedBy.Name), " -")
			//nolint:errcheck // Flush tells
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, k.BotID, k.Name, k.Prefix, webhook.FormatTime(k.CreatedAt), by, orNone(k.LastUsedAt))
		}
		return nil
	})
}

type opsKeysList struct {
	opsBot
	outputFlags
}

// Run lists the keys.
func (c *opsKeysList) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	list, err := api.ListKeys(ctx, c.ID)
	if err != nil {
		return err
	}
	return c.showKeys(list.Body, list.Value)
}

// maxKeyLine bounds what is read of standard input.
const maxKeyLine = 1024

type opsKeysFind struct {
	ServiceFlags
	outputFlags
	Key string `arg:"" name:"key" help:"The key, or how it begins, such as bot_x7Kq; - reads it from standard input, as others on the machine see command lines."`
}

// Run finds the keys. None is an error.
func (c *opsKeysFind) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	text := c.Key
	if text == "-" {
		line, err := io.ReadAll(io.LimitReader(os.Stdin, maxKeyLine))
		if err != nil {
			return err
		}
		text = strings.TrimSpace(string(line))
	}
	list, err := api.FindKeys(ctx, mathub.KeySearch{Key: text})
	if err != nil {
		return err
	}
	if err := c.showKeys(list.Body, list.Value); err != nil || len(list.Value) > 0 {
		return err
	}
	return errors.New("no key begins so, or the key was revoked")
}

type opsKeysRevoke struct {
	opsBot
	Key string `arg:"" name:"key-id" help:"The key's id, as \"ops keys list\" and \"find\" show it."`
}

// Run revokes the key.
func (c *opsKeysRevoke) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	return api.DeleteKey(ctx, c.ID, c.Key)
}
