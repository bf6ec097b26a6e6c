package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/webhook"
)

// deliveryFilters are those of the API's lists of deliveries.
type deliveryFilters struct {
	Failed      bool   `xor:"success" help:"List only failed deliveries."`
	Succeeded   bool   `xor:"success" help:"List only successful deliveries."`
	Type        string `help:"List only this event type. \"test\" is allowed."`
	Event       string `help:"List only the attempts of this event, by its id."`
	Trigger     string `enum:",event,retry,redeliver,recover,test,verify" default:"" help:"List only what was asked for so: event, retry, redeliver, recover, test or verify."`
	StatusClass string `enum:",2xx,3xx,4xx,5xx,none" default:"" help:"List only such answers: 2xx, 3xx, 4xx, 5xx, or none."`
	Error       string `help:"List only this error, such as timeout, or those that begin so: tls finds \"tls: certificate expired\"."`
	Since       moment `help:"List only attempts made since then: a time in RFC 3339, or how long ago, such as 24h."`
	Until       moment `help:"List only attempts made until then."`
	Before      string `help:"Continue a list after this delivery."`
	Limit       int    `help:"How many to list, from 1 to 50. Default: 50."`
}

func (f *deliveryFilters) params() mathub.ListDeliveriesParams {
	p := mathub.ListDeliveriesParams{
		EventType: f.Type, EventID: f.Event, Trigger: f.Trigger, StatusClass: f.StatusClass, Error: f.Error,
		Since: f.Since.text(), Until: f.Until.text(), Before: f.Before, Limit: f.Limit,
	}
	if f.Failed || f.Succeeded {
		p.Success = &f.Succeeded
	}
	return p
}

type webhooksDeliveriesCommand struct {
	BotFlags
	outputFlags
	deliveryFilters
	ID string `arg:"" optional:"" name:"webhook" help:"The webhook's id. Default: all webhooks."`
}

// Run lists deliveries, newest first.
func (c *webhooksDeliveriesCommand) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	params := c.params()
	list := func() (*mathub.Response[[]mathub.Delivery], error) { return api.ListDeliveries(ctx, c.ID, &params) }
	if c.ID == "" {
		all := mathub.ListAllDeliveriesParams(params)
		list = func() (*mathub.Response[[]mathub.Delivery], error) { return api.ListAllDeliveries(ctx, &all) }
	}
	answer, err := list()
	if err != nil {
		return err
	}
	return c.show(answer.Body, func(w io.Writer) error {
		listDeliveries(w, answer.Value)
		if before := answer.Next(); before != "" {
			fmt.Fprintf(w, "\nOlder ones follow: --before=%s\n", before) //nolint:errcheck // Flush tells
		}
		return nil
	})
}

// listDeliveries writes deliveries as a table.
func listDeliveries(w io.Writer, list []mathub.Delivery) {
	fmt.Fprintln(w, "ATTEMPTED\tOK\tOUTCOME\tMS\tATTEMPT\tTRIGGER\tEVENT\tEVENT ID\tDELIVERY") //nolint:errcheck // Flush tells
	for _, d := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\n", webhook.FormatTime(d.AttemptedAt), yes(d.Success), outcomeOf(d.Success, d.Error, d.StatusCode), d.DurationMS, d.Attempt, d.Trigger, d.EventType, d.EventID, d.ID) //nolint:errcheck // Flush tells
	}
}

// delivered shows the one delivery a call made, and fails if that did.
func (f outputFlags) delivered(answer *mathub.Response[mathub.Delivery], err error) error {
	if err != nil {
		return err
	}
	if err := f.show(answer.Body, func(w io.Writer) error {
		listDeliveries(w, []mathub.Delivery{answer.Value})
		return nil
	}); err != nil {
		return err
	}
	if !answer.Value.Success {
		return errFailed
	}
	return nil
}

type webhooksDeliveryCommand struct {
	BotFlags
	outputFlags
	webhookArg
	Delivery string `arg:"" help:"The delivery's id, as \"webhooks deliveries\" shows it."`
}

// Run shows one delivery with all that was sent and answered.
func (c *webhooksDeliveryCommand) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	found, err := api.GetDelivery(ctx, c.ID, c.Delivery)
	if err != nil {
		return err
	}
	d := found.Value
	return c.show(found.Body, func(w io.Writer) error {
		facts(w, [][2]string{
			{"Delivery", d.ID},
			{"Webhook", d.WebhookID},
			{"Event", d.EventID},
			{"Type", d.EventType},
			{"Attempt", fmt.Sprintf("%d, by %s", d.Attempt, d.Trigger)},
			{"Attempted", webhook.FormatTime(d.AttemptedAt)},
			{"Outcome", outcomeOf(d.Success, d.Error, d.StatusCode)},
			{"Took", took(d.DurationMS, d.Timings)},
			{"Next", nextAttempt(d)},
		})
		writeExchange(w, "Sent", d.RequestHeaders, string(indented(d.Payload)))
		body := "no body"
		switch {
		case d.BodyDropped:
			body = "the body is no longer kept"
		case d.ResponseBody != nil:
			body = *d.ResponseBody
		}
		writeExchange(w, "Answered", d.ResponseHeaders, body)
		return nil
	})
}

// facts writes a line for each thing.
func facts(w io.Writer, lines [][2]string) {
	for _, line := range lines {
		fmt.Fprintf(w, "%s\t%s\n", line[0], line[1]) //nolint:errcheck // Flush tells
	}
}

func took(totalMS int, t *mathub.Timings) string {
	if t == nil {
		return fmt.Sprintf("%d ms", totalMS)
	}
	parts := []string{}
	for _, part := range []struct {
		name string
		ms   *float64
	}{{"DNS", t.DNS}, {"connect", t.Connect}, {"TLS", t.TLS}, {"first byte", t.FirstByte}} {
		if part.ms != nil {
			parts = append(parts, fmt.Sprintf("%s %.1f", part.name, *part.ms))
		}
	}
	if len(parts) == 0 {
		return fmt.Sprintf("%.1f ms", t.Total)
	}
	return fmt.Sprintf("%.1f ms: %s", t.Total, strings.Join(parts, ", "))
}

func nextAttempt(d mathub.DeliveryDetail) string {
	if d.NextAttempt == nil {
		return "none is planned"
	}
	return fmt.Sprintf("attempt %d at %s", *d.NextAttempt, orNone(d.NextAttemptAt))
}

// writeExchange writes one side of an exchange. What others chose is written so that a terminal does nothing but show it.
func writeExchange(w io.Writer, title string, headers []mathub.HeaderField, body string) {
	fmt.Fprintf(w, "\n%s:\n", title) //nolint:errcheck // Flush tells
	for _, h := range headers {
		fmt.Fprintf(w, "%s: %s\n", visible([]byte(h.Name)), visible([]byte(h.Value))) //nolint:errcheck // Flush tells
	}
	fmt.Fprintf(w, "\n%s\n", visibleLines(body)) //nolint:errcheck // Flush tells
}

// visibleLines is visible for text of several lines.
func visibleLines(text string) string {
	lines := strings.Split(strings.ReplaceAll(text, "\t", "    "), "\n")
	for i, line := range lines {
		lines[i] = visible([]byte(line))
	}
	return strings.Join(lines, "\n")
}

// indented is JSON for a person, or as it came where that cannot be.
func indented(raw json.RawMessage) []byte {
	if text, ok := webhook.Indented(raw); ok {
		return text
	}
	return raw
}

type webhooksMissedCommand struct {
	BotFlags
	outputFlags
	webhookArg
	Since       moment `help:"Start: a time in RFC 3339, or how long ago, such as 24h. Default: as for recover."`
	Until       moment `help:"End. Default: now."`
	Type        string `help:"Count only this event type."`
	Error       string `help:"Count only events of which an attempt failed so, such as timeout."`
	StatusClass string `enum:",2xx,3xx,4xx,5xx,none" default:"" help:"Count only events of which an attempt was answered so: 2xx, 3xx, 4xx, 5xx, or none."`
}

// Run counts what a webhook missed, and lists the first of it: what recover would deliver.
func (c *webhooksMissedCommand) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	found, err := api.GetMissed(ctx, c.ID, &mathub.GetMissedParams{Since: c.Since.text(), Until: c.Until.text(), EventType: c.Type, Error: c.Error, StatusClass: c.StatusClass})
	if err != nil {
		return err
	}
	m := found.Value
	return c.show(found.Body, func(w io.Writer) error {
		least := ""
		if m.AtLeast {
			least = "at least "
		}
		fmt.Fprintf(w, "%s%d events missed, accepted from %s to %s\n", least, m.Count, webhook.FormatTime(m.Since), webhook.FormatTime(m.Until)) //nolint:errcheck // Flush tells
		if len(m.Events) == 0 {
			return nil
		}
		fmt.Fprintln(w, "\nACCEPTED\tATTEMPTS\tEVENT\tEVENT ID") //nolint:errcheck // Flush tells
		for _, e := range m.Events {
			fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", webhook.FormatTime(e.AcceptedAt), e.Attempts, e.EventType, e.EventID) //nolint:errcheck // Flush tells
		}
		return nil
	})
}
