package mathub

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"strings"
	"time"
)

const (
	defaultWait = 20 * time.Second
	longestWait = 30 * time.Second
	// slack is how long a call may take beyond what it waits for events.
	slack = 20 * time.Second
)

// PollOptions say what to poll for. The zero value reads all events that are kept, and then those that come.
type PollOptions struct {
	// After is the cursor that you kept, or "latest" for events from now on. Default: the oldest event that is kept.
	After string
	// Types are the event types to read. Default: all.
	Types []EventType
	// Filter says which of them to read: by a field of the events' data, the values of which any will do. Default: all.
	Filter map[string][]string
	// Limit is the most events of a page, 1 to 500. Default: 100.
	Limit int
	// Wait is how long a call waits for an event: 1 to 30 whole seconds. Default: 20 s.
	Wait time.Duration
}

// Page is some events, in their order, and the cursor behind them. There may be no events.
type Page struct {
	Events []Received
	// Cursor is After of the next Poll. Keep it once the events are processed: each event is then read at least once.
	Cursor string
}

// Poll reads the bot's events in their order, page by page, and waits for further ones, until ctx ends, which ends it without an error. While
// the API is away or busy, it tries again. Any other error is the last that is yielded: a *[Problem] of status 401 is for the key, of 410
// for a cursor that is too old: go on without After, or with "latest".
func (c *Client) Poll(ctx context.Context, o PollOptions) iter.Seq2[Page, error] {
	return func(yield func(Page, error) bool) {
		params, err := o.params()
		if err != nil {
			yield(Page{}, err)
			return
		}
		for {
			asked := *params
			if asked.After == "latest" { // which does not wait: what happened meanwhile would be lost with its answer
				asked.Wait = ""
			}
			page, err := patiently(ctx, max(o.Wait, defaultWait)+slack, func(ctx context.Context) (*Response[EventPage], error) {
				return c.PollEvents(ctx, &asked)
			})
			if ctx.Err() != nil {
				return
			}
			if err == nil && page.Value.Cursor == "" {
				err = c.notTheAPI(errors.New("it answered without a cursor"))
			}
			if err != nil {
				yield(Page{}, err)
				return
			}
			moved := page.Value.Cursor != params.After
			params.After = page.Value.Cursor
			if moved && !yield(pageOf(page.Value), nil) {
				return
			}
		}
	}
}

func (o PollOptions) params() (*PollEventsParams, error) {
	wait := o.Wait
	if wait == 0 {
		wait = defaultWait
	}
	if wait < time.Second || wait > longestWait || wait%time.Second != 0 {
		return nil, errors.New("Wait must be 1 to 30 whole seconds") //nolint:staticcheck // a field's name
	}
	types := make([]string, len(o.Types))
	for i, t := range o.Types {
		types[i] = string(t)
	}
	params := &PollEventsParams{After: o.After, Limit: o.Limit, Types: strings.Join(types, ","), Wait: fmt.Sprintf("%ds", wait/time.Second)}
	return params, params.SetFilter(o.Filter)
}

// SetFilter has a call read only events whose data has, in each named field, one of the field's values. The error names a field
// that no event type has, or that has no values.
func (p *PollEventsParams) SetFilter(filter map[string][]string) error {
	params := reflect.ValueOf(p).Elem()
	for name, values := range filter {
		field := params.FieldByNameFunc(func(field string) bool {
			f, _ := params.Type().FieldByName(field)
			return f.Type == reflect.TypeFor[[]string]() && f.Tag.Get("form") == name+",omitempty"
		})
		if !field.IsValid() {
			return fmt.Errorf("filter: %s is not a field of any event type", name)
		}
		if len(values) == 0 { // which would let every event pass
			return fmt.Errorf("filter: %s needs a value", name)
		}
		field.Set(reflect.ValueOf(values))
	}
	return nil
}

func pageOf(page EventPage) Page {
	events := make([]Received, len(page.Events))
	for i, e := range page.Events {
		events[i] = Received{ID: e.ID, Type: EventType(e.Type), Timestamp: e.Timestamp, Data: typed(e.Type, e.Data), Raw: e.Data}
	}
	return Page{Events: events, Cursor: page.Cursor}
}
