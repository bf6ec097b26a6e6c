package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"reflect"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/internal/pause"
	"github.com/mathub/webhooks/webhook"
)

// Webhooks manages a bot's webhooks over the API.
type Webhooks struct {
	List       webhooksListCommand       `cmd:"" help:"List the bot's webhooks, oldest first."`
	Create     webhooksCreateCommand     `cmd:"" help:"Subscribe an endpoint."`
	Update     webhooksUpdateCommand     `cmd:"" help:"Change the given settings of a webhook."`
	Delete     webhooksDeleteCommand     `cmd:"" help:"Delete a webhook and its history."`
	Test       webhooksTestCommand       `cmd:"" help:"Send a test event now. Fails if the delivery fails."`
	Verify     webhooksVerifyCommand     `cmd:"" help:"Verify the endpoint now. Fails if it does not answer with the nonce."`
	Deliveries webhooksDeliveriesCommand `cmd:"" help:"List the last 50 deliveries, newest first."`
	Redeliver  webhooksRedeliverCommand  `cmd:"" help:"Send a delivery's event again, now. Fails if the delivery fails."`
	RetryNow   webhooksRetryNowCommand   `cmd:"" help:"Attempt now what waits."`
	Recover    webhooksRecoverCommand    `cmd:"" help:"Deliver the events that the webhook missed."`
}

type outputFlags struct {
	JSON bool `help:"Print the API's JSON."`
}

// show prints the API's answer as it came, for machines, or as a table.
func (f outputFlags) show(raw []byte, table func(w io.Writer) error) error {
	if f.JSON {
		_, err := fmt.Println(string(bytes.TrimSpace(raw)))
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	if err := table(w); err != nil {
		return err
	}
	return w.Flush()
}

func (f outputFlags) webhooks(raw []byte, list ...mathub.Webhook) error {
	return f.show(raw, func(w io.Writer) error {
		fmt.Fprintln(w, "ID\tNAME\tACTIVE\tFAILURES\tSIGNED\tVERIFIED\tEVENTS\tURL") //nolint:errcheck // Flush tells
		for _, h := range list {
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", h.ID, nameOf(h), yes(h.IsActive), h.FailureCount, yes(h.HasSecret), yes(h.Verified), strings.Join(h.Events, ","), h.URL) //nolint:errcheck // Flush tells
		}
		return nil
	})
}

func nameOf(h mathub.Webhook) string {
	if h.Name == nil {
		return "-"
	}
	return *h.Name
}

// listed are the webhooks of a list, without how they have been doing.
func listed(details []mathub.WebhookDetail) []mathub.Webhook {
	list := make([]mathub.Webhook, len(details))
	for i, d := range details {
		list[i] = mathub.Webhook{ID: d.ID, Name: d.Name, IsActive: d.IsActive, FailureCount: d.FailureCount, HasSecret: d.HasSecret, Verified: d.Verified, Events: d.Events, URL: d.URL}
	}
	return list
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

type webhooksListCommand struct {
	BotFlags
	outputFlags
}

func (c *webhooksListCommand) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	answer, err := api.ListWebhooks(ctx, nil)
	if err != nil {
		return err
	}
	return c.webhooks(answer.Body, listed(answer.Value)...)
}

type webhooksCreateCommand struct {
	BotFlags
	outputFlags
	URL    string   `arg:"" help:"The endpoint's URL."`
	Name   string   `help:"A name for you, of at most 100 characters."`
	Events []string `required:"" help:"The event types to subscribe to, separated by commas."`
	Secret string   `env:"MATHUB_WEBHOOK_SECRET" help:"The secret that signs deliveries. Default: none, unsigned."`
}

func (c *webhooksCreateCommand) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	answer, err := api.CreateWebhook(ctx, mathub.NewWebhook{URL: c.URL, Name: c.Name, Events: eventTypes(c.Events), Secret: c.Secret})
	if err != nil {
		return err
	}
	return c.webhooks(answer.Body, answer.Value)
}

func eventTypes(names []string) (types mathub.EventTypes) {
	for _, name := range names {
		types = append(types, mathub.EventType(name))
	}
	return types
}

// webhookArg names a webhook.
type webhookArg struct {
	ID string `arg:"" name:"webhook" help:"The webhook's id, as \"webhooks list\" shows it."`
}

type webhooksUpdateCommand struct {
	BotFlags
	outputFlags
	webhookArg
	URL           string   `help:"A new URL."`
	Name          string   `xor:"name" help:"A new name."`
	NoName        bool     `xor:"name" help:"Remove the name."`
	Events        []string `help:"The new list of event types."`
	Secret        string   `xor:"secret" help:"A new secret."`
	SecretOverlap string   `help:"With --secret: how long the previous secret signs too, such as 24h."`
	NoSecret      bool     `xor:"secret" help:"Remove the secret."`
	Enable        bool     `xor:"active" help:"Enable the webhook, with a failure count of 0."`
	Disable       bool     `xor:"active" help:"Disable the webhook."`
}

func (c *webhooksUpdateCommand) Run(ctx context.Context) error {
	change := mathub.WebhookChange{URL: c.URL, Events: eventTypes(c.Events), SecretOverlap: c.SecretOverlap}
	if c.Secret != "" {
		change.Secret.Set(c.Secret)
	}
	if c.Name != "" {
		change.Name.Set(c.Name)
	}
	if c.NoName {
		change.Name.SetNull()
	}
	if c.NoSecret {
		change.Secret.SetNull()
	}
	if c.Enable || c.Disable {
		change.IsActive = &c.Enable
	}
	if reflect.ValueOf(change).IsZero() {
		return usageError{fmt.Errorf("nothing to change; give --url, --name, --no-name, --events, --secret, --no-secret, --enable or --disable")}
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

type webhooksDeleteCommand struct {
	BotFlags
	webhookArg
}

func (c *webhooksDeleteCommand) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	return api.DeleteWebhook(ctx, c.ID)
}

// outcome says in a word how a delivery went.
func outcome(d mathub.Delivery) string {
	if d.Error != nil {
		return *d.Error
	}
	if d.StatusCode != nil {
		return "HTTP " + strconv.Itoa(*d.StatusCode)
	}
	return "delivered"
}

func (f outputFlags) deliveries(raw []byte, list ...mathub.Delivery) error {
	return f.show(raw, func(w io.Writer) error {
		fmt.Fprintln(w, "ATTEMPTED\tOK\tOUTCOME\tMS\tATTEMPT\tTRIGGER\tEVENT\tEVENT ID\tDELIVERY") //nolint:errcheck // Flush tells
		for _, d := range list {
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\n", webhook.FormatTime(d.AttemptedAt), yes(d.Success), outcome(d), d.DurationMS, d.Attempt, d.Trigger, d.EventType, d.EventID, d.ID) //nolint:errcheck // Flush tells
		}
		return nil
	})
}

// delivered shows the one delivery a call made, and fails if that did.
func (f outputFlags) delivered(answer *mathub.Response[mathub.Delivery], err error) error {
	if err != nil {
		return err
	}
	if err := f.deliveries(answer.Body, answer.Value); err != nil {
		return err
	}
	if !answer.Value.Success {
		return errFailed
	}
	return nil
}

type webhooksTestCommand struct {
	BotFlags
	outputFlags
	webhookArg
	Type string `help:"Send the catalog's sample of this event type. Default: a plain test event."`
}

func (c *webhooksTestCommand) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	return c.delivered(api.TestWebhook(ctx, c.ID, &mathub.TestRequest{EventType: c.Type}))
}

type webhooksVerifyCommand struct {
	BotFlags
	outputFlags
	webhookArg
}

func (c *webhooksVerifyCommand) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	return c.delivered(api.VerifyWebhook(ctx, c.ID))
}

type webhooksDeliveriesCommand struct {
	BotFlags
	outputFlags
	webhookArg
}

func (c *webhooksDeliveriesCommand) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	answer, err := api.ListDeliveries(ctx, c.ID, nil)
	if err != nil {
		return err
	}
	return c.deliveries(answer.Body, answer.Value...)
}

type webhooksRedeliverCommand struct {
	BotFlags
	outputFlags
	webhookArg
	Delivery string `arg:"" help:"The delivery's id, as \"webhooks deliveries\" shows it."`
}

func (c *webhooksRedeliverCommand) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	return c.delivered(api.RedeliverDelivery(ctx, c.ID, c.Delivery))
}

type webhooksRetryNowCommand struct {
	BotFlags
	outputFlags
	webhookArg
	Event string `help:"Attempt only this event, by its id. Default: all that wait."`
}

func (c *webhooksRetryNowCommand) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	answer, err := api.RetryNow(ctx, c.ID, &mathub.RetryRequest{EventID: c.Event})
	if err != nil {
		return err
	}
	return c.show(answer.Body, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "ATTEMPTS\n%d\n", answer.Value.Attempts)
		return err
	})
}

type webhooksRecoverCommand struct {
	BotFlags
	outputFlags
	webhookArg
	Since  time.Time `help:"Start time in RFC 3339. Default: 24 hours before the webhook was last disabled."`
	Until  time.Time `help:"Until when, in RFC 3339; now when left out."`
	Wait   bool      `help:"Wait for the end. Fails if a delivery failed or the recovery did not complete."`
	Status bool      `xor:"verb" help:"Show the progress of the last recovery."`
	Cancel bool      `xor:"verb" help:"Cancel the running recovery."`
}

func (c *webhooksRecoverCommand) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	if c.Cancel {
		return api.CancelRecovery(ctx, c.ID)
	}
	answer, err := c.state(ctx, api)
	for err == nil && c.Wait && answer.Value.State == "running" {
		if !pause.For(ctx, time.Second) {
			return ctx.Err()
		}
		answer, err = api.GetRecovery(ctx, c.ID)
	}
	if err != nil {
		return err
	}
	r := answer.Value
	if err := c.show(answer.Body, func(w io.Writer) error { return printRecovery(w, r) }); err != nil {
		return err
	}
	if c.Wait && (r.State != "completed" || r.Failed > 0) {
		return errFailed
	}
	return nil
}

// state is how far the last recovery has come: of a new one, unless only that is asked for.
func (c *webhooksRecoverCommand) state(ctx context.Context, api *mathub.Client) (*mathub.Response[mathub.Recovery], error) {
	if c.Status {
		return api.GetRecovery(ctx, c.ID)
	}
	return api.RecoverWebhook(ctx, c.ID, &mathub.Span{Since: c.Since, Until: c.Until})
}

func printRecovery(w io.Writer, r mathub.Recovery) error {
	lastError := "-"
	if r.LastError != nil {
		lastError = *r.LastError
	}
	_, err := fmt.Fprintf(w, "STATE\tFOUND\tDELIVERED\tFAILED\tREMAINING\tLAST ERROR\n%s\t%d\t%d\t%d\t%d\t%s\n", r.State, r.Found, r.Delivered, r.Failed, r.Remaining, lastError)
	return err
}
