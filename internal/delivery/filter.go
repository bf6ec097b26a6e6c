package delivery

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/webhook"
)

const (
	// maxLooked is how many subscribers are looked through for the few whose filters let an event pass, before its audience is
	// split into pages: some 300 ms.
	maxLooked = 20_000
	// lookedAtOnce is how many of them one statement reads.
	lookedAtOnce = 1000
	// maxSparse bounds the subscribers of a page of which few get the event.
	maxSparse = 10 * StepSize
)

// subscriberList is the subscribers that events of one type and for the same bots share. Where one of them has a filter, it is
// filtered: then it has those that get one of the events at least, and each event says which of them get it.
type subscriberList struct {
	rows     []db.AddressEventsRow
	targets  []int // the rows' places in Audience.Targets; -1: none
	all      []int // the rows' places here
	filtered bool
	looked   int  // how many subscribers were looked at for it
	cut      bool // there are more, which were not
}

func listsOf(all []*acceptance, subscribers []db.AddressEventsRow) map[int]*subscriberList {
	lists := map[int]*subscriberList{}
	for _, a := range all {
		if lists[a.list] == nil {
			lists[a.list] = &subscriberList{}
		}
	}
	for _, s := range subscribers {
		list := lists[int(s.List)]
		list.rows = append(list.rows, s)
	}
	return lists
}

// of are the places of the rows that get an event.
func (l *subscriberList) of(a *acceptance) []int {
	if l.filtered {
		return a.rows
	}
	for len(l.all) < len(l.rows) {
		l.all = append(l.all, len(l.all))
	}
	return l.all
}

// isFiltered says that a subscriber has a filter.
func isFiltered(rows []db.AddressEventsRow) bool {
	for i := range rows {
		if rows[i].Filter != nil {
			return true
		}
	}
	return false
}

// take adds the rows that get one of the events, of each event up to most.
func (l *subscriberList) take(rows []db.AddressEventsRow, events []*acceptance, most int) {
	l.filtered = true
	l.looked += len(rows)
	for _, s := range rows {
		filter, err := webhook.StoredFilter(s.Filter)
		if err != nil { // made by a later release: too much is better than too little
			filter = nil
		}
		place := -1
		for _, a := range events {
			if len(a.rows) >= most || len(filter) > 0 && !filter.Match(a.dataFields()) {
				continue
			}
			if place < 0 {
				place = len(l.rows)
				l.rows = append(l.rows, s)
			}
			a.rows = append(a.rows, place)
		}
	}
}

// dataFields are the event's, read once.
func (a *acceptance) dataFields() webhook.DataFields {
	if a.fields == nil {
		a.fields = webhook.FieldsOf(a.event.Body)
	}
	return a.fields
}

// applyFilters finds out which subscribers with filters get which events, and puts those into the queues of those that are queued.
func (d *Deliverer) applyFilters(ctx context.Context, all []*acceptance, lists map[int]*subscriberList) error {
	for n, list := range lists {
		if !isFiltered(list.rows) {
			continue
		}
		var events []*acceptance
		for _, a := range all {
			if a.list == n && !a.Duplicate {
				events = append(events, a)
			}
		}
		if len(events) == 0 {
			continue
		}
		if err := d.filterList(ctx, events, list); err != nil {
			return err
		}
		if err := d.enqueueMatching(ctx, events, list); err != nil {
			return err
		}
	}
	return nil
}

// filterList filters the list of some events. It reads on where there are more subscribers than a page has, as long as that may
// make pages needless.
func (d *Deliverer) filterList(ctx context.Context, events []*acceptance, list *subscriberList) (err error) {
	rows, most := list.rows, PageSize+1
	list.rows = nil
	for {
		list.take(rows, events, PageSize+1)
		if len(rows) < most || !anyFits(events) {
			return nil
		}
		if list.looked >= maxLooked {
			list.cut = true
			return nil
		}
		rest := Page{After: rows[len(rows)-1].ID, Upto: uuid.Max}
		most = lookedAtOnce
		if rows, err = d.queries.AddressEvents(ctx, d.cfg.Pool, addressed(events, rest, int32(most), false)); err != nil {
			return fmt.Errorf("find more subscribers of event %s: %w", events[0].event.ID, err)
		}
		d.wakeQueued(ctx, rows)
	}
}

// anyFits says that one of the events may do without pages.
func anyFits(events []*acceptance) bool {
	for _, a := range events {
		if len(a.rows) <= PageSize {
			return true
		}
	}
	return false
}

// enqueueMatching puts events into the queues of webhooks whose filters let them pass. A later part of an audience in pages does
// so by itself.
func (d *Deliverer) enqueueMatching(ctx context.Context, events []*acceptance, list *subscriberList) error {
	pairs := db.EnqueueMatchingParams{RunID: events[0].event.RunID}
	for _, a := range events {
		if list.cut {
			continue
		}
		for _, i := range a.rows {
			if s := &list.rows[i]; s.Filter != nil && s.Queued && !s.Ordered {
				pairs.EventIds, pairs.WebhookIds = append(pairs.EventIds, a.event.ID), append(pairs.WebhookIds, s.ID)
			}
		}
	}
	if len(pairs.EventIds) == 0 {
		return nil
	}
	added, err := d.queries.EnqueueMatching(ctx, d.cfg.Pool, pairs)
	if err != nil {
		return fmt.Errorf("queue event %s: %w", events[0].event.ID, err)
	}
	first := map[uuid.UUID]db.EnqueueMatchingRow{}
	for _, row := range added {
		if before, has := first[row.WebhookID]; !has || row.Seq < before.Seq {
			first[row.WebhookID] = row
		}
	}
	var woken []db.AddressEventsRow
	for _, s := range list.rows {
		if row, has := first[s.ID]; has {
			s.Seq, s.DueAt = row.Seq, row.DueAt
			woken = append(woken, s)
		}
	}
	d.wakeQueued(ctx, woken)
	return nil
}

// passes says whether an event passes the filter of an ordered webhook, now that it is first, or of one that was ordered when the
// event was accepted. What was attempted, or was planned by a recovery, was found to pass before.
func passes(a Attempt, event storedEvent, target db.GetTargetRow) bool {
	if target.OrderedFilter == nil || a.Number > 1 || a.Trigger != webhook.TriggerEvent {
		return true
	}
	if target.OrderedUntil != nil && event.StoredAt.After(*target.OrderedUntil) {
		return true
	}
	filter, err := webhook.StoredFilter(target.OrderedFilter)
	return err != nil || filter.Match(webhook.FieldsOf(event.Body)) // as take has it
}

// addressPart reads the subscribers of a part of an event's audience that get it: up to StepSize, and some at least, unless there
// are none among maxLooked. last is the last that was looked at, where there may be more.
func (d *Deliverer) addressPart(ctx context.Context, one *acceptance, p Page) (list *subscriberList, last *uuid.UUID, err error) {
	list = &subscriberList{}
	for most := StepSize; ; most = StepSize / 2 {
		rows, err := d.queries.AddressEvents(ctx, d.cfg.Pool, addressed([]*acceptance{one}, p, int32(most), false))
		if err != nil {
			return nil, nil, fmt.Errorf("find the subscribers of event %s: %w", one.event.ID, err)
		}
		d.wakeQueued(ctx, rows)
		if list.filtered || isFiltered(rows) {
			list.take(rows, []*acceptance{one}, StepSize)
		} else {
			list.rows = rows
		}
		more := len(rows) == most && rows[most-1].ID != p.Upto
		if more && len(list.rows) < StepSize/2 && list.looked < maxLooked {
			p.After = rows[len(rows)-1].ID
			continue
		}
		if more {
			last = &rows[len(rows)-1].ID
		}
		if list.filtered {
			err = d.enqueueMatching(ctx, []*acceptance{one}, list)
		}
		return list, last, err
	}
}
