// Package searchattr holds the search attributes by which operators find the product's workflows in Temporal's lists.
package searchattr

import (
	"context"
	"errors"
	"maps"
	"sync/atomic"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/mathub/webhooks/webhook"
)

// The search attributes. A workflow that concerns several webhooks, an event whose deliveries failed for good, names
// them all; Temporal's `=` asks whether a list holds the value.
var (
	EventType = temporal.NewSearchAttributeKeyKeywordList("MathubEventType")
	WebhookID = temporal.NewSearchAttributeKeyKeywordList("MathubWebhookId")
	BotID     = temporal.NewSearchAttributeKeyKeywordList("MathubBotId")
	// Failed is true once a delivery that the workflow made, or was started for, has failed.
	Failed = temporal.NewSearchAttributeKeyBool("MathubFailed")
	// Outcome is the worst that deliveries of the workflow have come to, where one failed: see Retrying and GaveUp.
	Outcome = temporal.NewSearchAttributeKeyKeyword("MathubOutcome")
)

// The values of Outcome: of one word, as Temporal's UI takes a value apart at its spaces.
const (
	// Retrying: each delivery that failed is attempted again.
	Retrying = "retrying"
	// GaveUp: one that failed is not, as its attempts are over or its webhook was disabled.
	GaveUp = "gave-up"
)

// wanted are the attributes as Temporal is to know them. Of those that it keeps in an SQL database, a namespace has 10
// keywords, 3 lists of keywords and 3 booleans.
var wanted = map[string]enums.IndexedValueType{
	EventType.GetName(): enums.INDEXED_VALUE_TYPE_KEYWORD_LIST,
	WebhookID.GetName(): enums.INDEXED_VALUE_TYPE_KEYWORD_LIST,
	BotID.GetName():     enums.INDEXED_VALUE_TYPE_KEYWORD_LIST,
	Failed.GetName():    enums.INDEXED_VALUE_TYPE_BOOL,
	Outcome.GetName():   enums.INDEXED_VALUE_TYPE_KEYWORD,
}

// Wanted are the attributes by name, and of which type Temporal is to know them.
func Wanted() map[string]enums.IndexedValueType { return maps.Clone(wanted) }

// Types are the types of events as EventType has them.
func Types(events []webhook.Event) []string {
	var types []string
	for _, t := range webhook.TypesOf(events) {
		types = append(types, string(t))
	}
	return types
}

// maxListBytes is what a list may take, a little under the 2 KiB that Temporal allows a value
// (frontend.searchAttributesSizeOfValueLimit). It is enough for 51 webhooks.
const maxListBytes = 2000

// Fitting are as many of the ids, without repeats, as one attribute can hold.
func Fitting(ids []string) []string {
	size := len("[]")
	seen := make(map[string]bool, len(ids))
	fitting := make([]string, 0, len(ids))
	for _, id := range ids {
		if seen[id] {
			continue
		}
		if size += len(`"",`) + len(id); size > maxListBytes {
			break
		}
		seen[id] = true
		fitting = append(fitting, id)
	}
	return fitting
}

// Attributes say whether the namespace has the search attributes. Temporal refuses whatever names one that it does not
// know, so that without them the product goes on, and its workflows are only harder to find. A nil *Attributes has none.
type Attributes struct{ known atomic.Bool }

// Assume returns attributes that are taken as registered until Temporal says otherwise: for programs that emit events
// and leave the registering to the product.
func Assume() *Attributes {
	a := &Attributes{}
	a.known.Store(true)
	return a
}

// Known says whether the attributes may be used.
func (a *Attributes) Known() bool { return a != nil && a.known.Load() }

// Start starts a workflow with the given attributes, or, where Temporal does not know them, without.
func (a *Attributes) Start(ctx context.Context, c client.Client, attributes temporal.SearchAttributes, options client.StartWorkflowOptions, workflow any, input any) (client.WorkflowRun, error) {
	if !a.Known() {
		return c.ExecuteWorkflow(ctx, options, workflow, input)
	}
	with := options
	with.TypedSearchAttributes = attributes
	run, err := c.ExecuteWorkflow(ctx, with, workflow, input)
	if !refused(err) {
		return run, err
	}
	run, err = c.ExecuteWorkflow(ctx, options, workflow, input)
	if !refused(err) { // so it was for the attributes: an operator has removed them
		a.known.Store(false)
	}
	return run, err
}

// SignalWithStart signals a workflow and starts it where it does not run, with the given attributes, or, where Temporal does
// not know them, without.
func (a *Attributes) SignalWithStart(ctx context.Context, c client.Client, attributes temporal.SearchAttributes, signal string, arg any, options client.StartWorkflowOptions, workflow any, input any) error {
	if a.Known() {
		with := options
		with.TypedSearchAttributes = attributes
		_, err := c.SignalWithStartWorkflow(ctx, options.ID, signal, arg, with, workflow, input)
		if !refused(err) {
			return err
		}
	}
	_, err := c.SignalWithStartWorkflow(ctx, options.ID, signal, arg, options, workflow, input)
	if a.Known() && !refused(err) { // so it was for the attributes: an operator has removed them
		a.known.Store(false)
	}
	return err
}

func refused(err error) bool {
	var invalid *serviceerror.InvalidArgument
	return errors.As(err, &invalid)
}
