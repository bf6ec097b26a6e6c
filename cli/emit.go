package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/webhook"
)

// Emit emits events that are written one on a line.
type Emit struct {
	ServiceAPIFlags
	ServiceToken string        `env:"MATHUB_SERVICE_TOKEN" required:"" help:"The service API's token. Prefer the environment to the command line."`
	File         string        `arg:"" help:"A file with one event a line, as JSON. - is the standard input."`
	Timeout      time.Duration `default:"1m" help:"How long to retry each batch of up to 100 events."`
	JSON         bool          `help:"Print the receipts as JSON, one a line."`
}

// Run emits the file's events.
func (c *Emit) Run(ctx context.Context) error {
	if c.Timeout <= 0 {
		return usageError{fmt.Errorf("--timeout is %s; must be more than 0", c.Timeout)}
	}
	input := os.Stdin
	if c.File != "-" {
		file, err := os.Open(c.File)
		if err != nil {
			return usageError{err}
		}
		defer file.Close() //nolint:errcheck // it is read only
		input = file
	}
	return c.emit(ctx, input, os.Stdout)
}

// eventLine is an event and the number of its line, or what is wrong with it.
type eventLine struct {
	number int
	event  webhook.Event
	err    error
}

// emit emits the input's events in batches, in their order, and prints what became of them.
func (c *Emit) emit(ctx context.Context, input io.Reader, output io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines := make(chan eventLine)
	go readLines(ctx, input, lines)
	e := emitter{Emit: c, door: &emit.HTTP{URL: c.API, Token: c.ServiceToken}, output: output}
	err := e.emitAll(ctx, lines)
	if total := e.total(); err == nil {
		err = total
	}
	return err
}

// readLines reads a line after the other until one is at fault. Nothing ends the wait for a terminal's input, so that it is
// not waited for: lines is closed at the input's end only.
func readLines(ctx context.Context, input io.Reader, lines chan<- eventLine) {
	scanner := bufio.NewScanner(input)
	scanner.Buffer(nil, webhook.MaxEventBytes+len("\r\n")+1)
	number := 0
	send := func(e webhook.Event, err error) (more bool) {
		select {
		case lines <- eventLine{number, e, err}:
			return err == nil
		case <-ctx.Done():
			return false
		}
	}
	for scanner.Scan() {
		number++
		raw := bytes.TrimSpace(scanner.Bytes())
		if number == 1 { // which programs on Windows begin with a byte order mark
			raw = bytes.TrimPrefix(raw, []byte("\ufeff"))
		}
		if len(raw) == 0 {
			continue
		}
		e, err := webhook.ParseEvent(raw)
		if err == nil {
			if e.ID == "" {
				e.ID = webhook.NewID() // each request has the same
			}
			err = e.Validate()
		}
		if !send(e, err) {
			return
		}
	}
	number++
	switch err := scanner.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		send(webhook.Event{}, fmt.Errorf("an event must have at most %d bytes of JSON", webhook.MaxEventBytes))
	case err != nil:
		send(webhook.Event{}, err)
	default:
		close(lines)
	}
}

// emitter sends events and counts what became of them.
type emitter struct {
	*Emit
	door                *emit.HTTP
	output              io.Writer
	waiting             []eventLine
	accepted, duplicate int
	conflicts, unknown  int
}

func (e *emitter) emitAll(ctx context.Context, lines <-chan eventLine) error {
	for more := true; more; {
		var line eventLine
		select {
		case line, more = <-lines:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		switch {
		case line.err != nil:
			return fmt.Errorf("line %d: %w; nothing from line %d on is emitted", line.number, line.err, e.next(line))
		case more:
			e.waiting = append(e.waiting, line)
		}
		for len(e.waiting) >= webhook.MaxBatchEvents || !more && len(e.waiting) > 0 {
			if err := e.send(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// next is the number of the first line that was not emitted when line came.
func (e *emitter) next(line eventLine) int {
	if len(e.waiting) > 0 {
		return e.waiting[0].number
	}
	return line.number
}

// send sends as many of the waiting events as make a batch.
func (e *emitter) send(ctx context.Context) error {
	events := make([]webhook.Event, len(e.waiting))
	for i, line := range e.waiting {
		events[i] = line.event
	}
	n := webhook.BatchLen(events)
	batch := e.waiting[:n]
	ctx, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	receipts, err := e.door.Events(ctx, events[:n])
	if err != nil {
		return fmt.Errorf("lines %d to %d: %w%s", batch[0].number, batch[n-1].number, err, faultyLines(batch, err))
	}
	e.waiting = e.waiting[n:]
	for i, r := range receipts {
		if e.accepted++; r.Duplicate {
			e.duplicate++
		}
		e.warn(batch[i].number, r)
		if !e.JSON {
			continue
		}
		if err := json.NewEncoder(e.output).Encode(r); err != nil {
			return err
		}
	}
	return nil
}

// warn says what an emitter wants to know of an event that was accepted.
func (e *emitter) warn(line int, r emit.Receipt) {
	if r.Conflict {
		e.conflicts++
		fmt.Fprintf(os.Stderr, "line %d: event %s was accepted before with other content; that content is delivered\n", line, r.ID)
	}
	for _, f := range r.SchemaFaults {
		fmt.Fprintf(os.Stderr, "line %d: event %s: %s %s\n", line, r.ID, f.Field, f.Message)
	}
	if len(r.UnknownBotIDs) > 0 {
		e.unknown++
		fmt.Fprintf(os.Stderr, "line %d: event %s names bots that do not exist: %s\n", line, r.ID, strings.Join(r.UnknownBotIDs, ", "))
	}
}

// faultyLines says by the numbers of their lines what is wrong with events of a batch.
func faultyLines(batch []eventLine, err error) string {
	var b strings.Builder
	for _, f := range emit.Faults(err) {
		if place, field, ok := webhook.BatchPlace(f.Field); ok && place < len(batch) {
			fmt.Fprintf(&b, "\n  line %d: %s %s", batch[place].number, field, f.Message)
		}
	}
	return b.String()
}

// total prints a person how many events were accepted.
func (e *emitter) total() error {
	if e.JSON {
		return nil
	}
	total := fmt.Sprintf("%d events accepted, %d of them duplicates", e.accepted, e.duplicate)
	if e.conflicts > 0 {
		total += fmt.Sprintf(", %d with other content", e.conflicts)
	}
	if e.unknown > 0 {
		total += fmt.Sprintf("; %d name bots that do not exist", e.unknown)
	}
	_, err := fmt.Fprintln(e.output, total)
	return err
}
