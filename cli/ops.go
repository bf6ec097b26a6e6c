package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	mathub "github.com/mathub/webhooks/clients/go"
)

// Ops is what operators ask the service API.
type Ops struct {
	Status opsStatusCommand `cmd:"" help:"Show what is wrong now. Exits with 3 if something is."`

	Late opsLateCommand `cmd:"" help:"List what is late: queues by their oldest due delivery, and workflows of events that still run."`

	Event opsEventCommand `cmd:"" help:"Show an event, its workflow, and its outcome at each webhook."`

	Bots opsBots `cmd:"" help:"List, show, suspend, resume and delete bots."`

	Keys opsKeys `cmd:"" help:"List, find and revoke keys of bots."`

	Webhooks opsWebhooks `cmd:"" help:"List, show, enable, disable, delete, recover and retry webhooks of any bot."`

	Incidents opsIncidents `cmd:"" help:"Undo what an incident of ours did: enable the webhooks that it disabled, and deliver what they missed."`

	Pauses opsPauses `cmd:"" help:"List what operators have paused."`
	Pause  opsPause  `cmd:"" help:"Pause all deliveries, a bot's or a host's. They wait in the webhooks' queues."`
	Resume opsResume `cmd:"" help:"End a pause. What waits is sent."`

	Audit opsAuditCommand `cmd:"" help:"List who changed what, newest first."`
}

// pageFlags say which part of a list is shown.
type pageFlags struct {
	Limit int    `default:"50" help:"How many are listed."`
	After string `help:"List what follows this place, which the previous page printed."`
}

const (
	// mostOnPage is how many rows the API answers with at most.
	mostOnPage = 100
	// mostCalls bounds the pages that are read to find as many rows as are asked for.
	mostCalls = 100
)

// gather reads pages until it has as many rows as are asked for: the API may answer with short ones. raw is the API's JSON.
func gather[T any](f pageFlags, list func(after string, limit int) (*mathub.Response[[]T], error)) (rows []T, raw []byte, next string, err error) {
	if f.Limit < 1 {
		return nil, nil, "", usageError{errors.New("--limit must be at least 1")}
	}
	var items [][]byte // as they came
	next = f.After
	for range mostCalls {
		page, err := list(next, min(mostOnPage, f.Limit-len(rows)))
		if err != nil {
			return nil, nil, "", err
		}
		var more []json.RawMessage
		if err := json.Unmarshal(page.Body, &more); err != nil {
			return nil, nil, "", err
		}
		for _, item := range more {
			items = append(items, item)
		}
		rows = append(rows, page.Value...)
		if next = page.Next(); next == "" || len(rows) >= f.Limit {
			break
		}
	}
	return rows, slices.Concat([]byte("["), bytes.Join(items, []byte(",")), []byte("]")), next, nil
}

// moreFollow says how a list goes on.
func moreFollow(w io.Writer, next string) {
	if next != "" {
		fmt.Fprintf(w, "\nMore follow: --after=%s\n", next) //nolint:errcheck // Flush tells
	}
}

// confirmFlags are of what cannot be undone.
type confirmFlags struct {
	Yes bool `help:"Do not ask. Required where no terminal is."`
}

// confirm asks, at a terminal, to type what is to be deleted.
func (f confirmFlags) confirm(what, id string) error {
	if f.Yes {
		return nil
	}
	none := usageError{fmt.Errorf("deleting %s cannot be undone; give --yes", what)}
	if info, err := os.Stdin.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return none
	}
	fmt.Fprintf(os.Stderr, "This deletes %s for good. Type %s to go on: ", what, id)
	answer, err := bufio.NewReader(os.Stdin).ReadString('\n')
	switch {
	case err != nil: // such as of /dev/null
		return none
	case strings.TrimSpace(answer) != id:
		return errors.New("nothing was deleted")
	}
	return nil
}
