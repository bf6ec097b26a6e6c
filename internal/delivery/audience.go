package delivery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/failpoint"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

const (
	// PageSize is how many webhooks one workflow delivers to without splitting its audience.
	PageSize = 250
	// MaxPages is how many pages, each a DeliverBatch workflow, a larger audience, or those of a group together, are split
	// into: some 90 KB of a workflow's history.
	MaxPages = 1000
	// maxTargets is how many webhooks a workflow's history names. A list of subscribers for which there is no room is paged.
	maxTargets = 4 * PageSize
	// StepSize is how many webhooks of a page are delivered to in one step, and how many each page has at least.
	StepSize = 500
)

// Audience is who events go to.
type Audience struct {
	// Targets are the webhooks that first attempts are made at, each once.
	Targets []Target `json:"targets,omitempty"`
	// Events are in the order in which they were given.
	Events []EventAudience `json:"events"`
	// More: the page goes on after Last.
	More bool      `json:"more,omitempty"`
	Last uuid.UUID `json:"last,omitzero"`
	// Searchable: the namespace has the search attributes. Standing in the history, it is the same on every replay.
	Searchable bool `json:"searchable,omitempty"`
	// Untyped: the workflow is to be given its events' types as a search attribute.
	Untyped bool `json:"untyped,omitempty"`
}

// EventAudience is who one event goes to: those of Targets, by their places in Audience.Targets, those in whose queue it
// stands, and, where they are many, Pages.
type EventAudience struct {
	// Duplicate: another workflow run has accepted the event before, and delivers it.
	Duplicate bool `json:"duplicate,omitempty"`
	// Conflict: what that has accepted says something else.
	Conflict bool `json:"conflict,omitempty"`
	// UnknownBots are those of its bots that are none, the first of them; they are looked for where it goes to no webhook.
	UnknownBots []string `json:"unknownBots,omitempty"`
	Targets     []int    `json:"targets,omitempty"`
	Queued      int      `json:"queued,omitempty"`
	Pages       []Page   `json:"pages,omitempty"`
}

// Target is a webhook as history may show it: a host, never a whole URL, which may hold a token; no secret.
type Target struct {
	WebhookID uuid.UUID `json:"webhookId"`
	BotID     string    `json:"botId"`
	Host      string    `json:"host"`
}

// Page is a span of webhook ids: after < id <= upto.
type Page struct {
	After uuid.UUID `json:"after"`
	Upto  uuid.UUID `json:"upto"`
}

// shareLists gives events of one type and for the same bots one list of subscribers.
func shareLists(events []*acceptance) {
	lists := map[[2]string]int{}
	for _, a := range events {
		key := [2]string{string(a.event.Type), textArray(a.event.BotIDs)}
		n, ok := lists[key]
		if !ok {
			n = len(lists)
			lists[key] = n
		}
		a.list = n
	}
}

// addressed asks for the subscribers of events, list by list. whole: events get their places at all ordered webhooks of the list,
// also beyond the page.
func addressed(events []*acceptance, p Page, most int32, whole bool) db.AddressEventsParams {
	asked := db.AddressEventsParams{After: p.After, Upto: p.Upto, PageSize: most, Whole: whole}
	for i, a := range events {
		n := int32(a.list)
		if !slices.Contains(asked.Lists, n) {
			asked.Lists, asked.ListTypes, asked.ListBots = append(asked.Lists, n), append(asked.ListTypes, string(a.event.Type)), append(asked.ListBots, textArray(a.event.BotIDs))
		}
		asked.EventIds, asked.EventLists, asked.EventPlaces = append(asked.EventIds, a.event.ID), append(asked.EventLists, n), append(asked.EventPlaces, int32(i))
		asked.RunID = a.event.RunID
	}
	return asked
}

// PartOfAudience asks for what follows in a page of an accepted event's audience.
type PartOfAudience struct {
	EventID string
	Page    Page
}

// AddressPart is Accept's lookup for a part of a large audience: StepSize webhooks at most.
func (d *Deliverer) AddressPart(ctx context.Context, in PartOfAudience) (Audience, error) {
	event, err := d.stored(ctx, in.EventID)
	if errors.Is(err, pgx.ErrNoRows) {
		return Audience{}, webhook.Invalid("eventId", "must be that of an event which is kept")
	}
	if err != nil {
		return Audience{}, err
	}
	event.RunID = "" // whichever run owns it by then: one that takes it over leaves this batch to it
	one, readAt := &acceptance{event: event}, time.Now()
	list, last, err := d.addressPart(ctx, one, in.Page)
	if err != nil {
		return Audience{}, err
	}
	var out Audience
	out.place(one, list)
	placed := len(one.Targets)
	if err = d.withoutServed(ctx, []*acceptance{one}, out.Targets); err != nil {
		return Audience{}, err
	}
	if one.fresh = len(one.Targets) == placed; one.fresh { // else each attempt finds out whether it has been made
		d.handAll([]*acceptance{one}, map[int]*subscriberList{one.list: list}, readAt)
	}
	out.Events, out.Searchable = []EventAudience{one.EventAudience}, d.cfg.Attributes.Known()
	if last != nil {
		out.More, out.Last = true, *last
	}
	return out, nil
}

// pages splits an event's audience into so many pages at most, each of so many subscribers at least.
func (d *Deliverer) pages(ctx context.Context, e storedEvent, most, least int64) ([]Page, error) {
	count, err := d.queries.CountAudience(ctx, d.cfg.Pool, db.CountAudienceParams{EventType: string(e.Type), BotIds: e.BotIDs})
	if err != nil {
		return nil, fmt.Errorf("count the subscribers of event %s: %w", e.ID, err)
	}
	size := max(least, (count+most-2)/max(1, most-1))
	ends, err := d.queries.AudiencePages(ctx, d.cfg.Pool, db.AudiencePagesParams{EventType: string(e.Type), BotIds: e.BotIDs, PageSize: size})
	if err != nil {
		return nil, fmt.Errorf("page the subscribers of event %s: %w", e.ID, err)
	}
	pages := make([]Page, 0, len(ends)+1)
	var after uuid.UUID
	for _, end := range append(ends, uuid.Max) {
		pages = append(pages, Page{After: after, Upto: end})
		after = end
	}
	return pages, nil
}

// audience gives each event its webhooks, pages the large lists of them, and hands what the first attempts need over to Run. The
// subscribers were read since readAt.
func (d *Deliverer) audience(ctx context.Context, all []*acceptance, subscribers []db.AddressEventsRow, of int, readAt time.Time) (Audience, error) {
	out := Audience{Searchable: d.cfg.Attributes.Known()}
	lists := listsOf(all, subscribers)
	if err := d.applyFilters(ctx, all, lists); err != nil {
		return out, err
	}
	var paged, repeated []*acceptance
	for _, a := range all {
		switch list := lists[a.list]; {
		case a.Duplicate:
			continue
		case !out.fits(a, list):
			paged = append(paged, a)
			continue
		default:
			out.place(a, list)
		}
		if !a.fresh {
			repeated = append(repeated, a)
		}
	}
	if err := d.pageAll(ctx, paged, lists, MaxPages/max(1, of, len(paged))); err != nil {
		return out, err
	}
	d.handAll(all, lists, readAt)
	if err := d.withoutServed(ctx, repeated, out.Targets); err != nil {
		return out, err
	}
	if err := d.findUnknownBots(ctx, all); err != nil {
		return out, err
	}
	for _, a := range all {
		if out.Events = append(out.Events, a.EventAudience); len(a.Targets) == 0 {
			d.begun(a.event.ID)
		}
	}
	return out, nil
}

// maxUnknownBots is how many of an event's unknown bots are named.
const maxUnknownBots = 20

// findUnknownBots looks, for events for named bots that go to no webhook, for those of the bots that are none.
func (d *Deliverer) findUnknownBots(ctx context.Context, all []*acceptance) error {
	for _, a := range all {
		if a.Duplicate || a.event.BotIDs == nil || len(a.Targets)+a.Queued+len(a.Pages) > 0 {
			continue
		}
		unknown, err := d.queries.UnknownBots(ctx, d.cfg.Pool, a.event.BotIDs)
		if err != nil {
			return fmt.Errorf("look up the bots of event %s: %w", a.event.ID, err)
		}
		a.UnknownBots = unknown[:min(len(unknown), maxUnknownBots)]
	}
	return nil
}

// fits says that an event's webhooks need no pages, and that there is room for them in Targets.
func (out *Audience) fits(a *acceptance, list *subscriberList) bool {
	rows := list.of(a)
	if len(rows) > PageSize || list.cut {
		return false
	}
	lacking := 0
	for _, i := range rows {
		if !list.rows[i].Queued && (list.targets == nil || list.targets[i] < 0) {
			lacking++
		}
	}
	return lacking == 0 || len(out.Targets)+lacking <= maxTargets
}

// place gives an event its webhooks, those that have no place in Targets one.
func (out *Audience) place(a *acceptance, list *subscriberList) {
	for len(list.targets) < len(list.rows) {
		list.targets = append(list.targets, -1)
	}
	for _, i := range list.of(a) {
		s := &list.rows[i]
		if s.Queued {
			a.Queued++
			continue
		}
		if list.targets[i] < 0 {
			list.targets[i] = len(out.Targets)
			out.Targets = append(out.Targets, Target{WebhookID: s.ID, BotID: s.BotID, Host: webhook.HostOf(s.Origin)})
		}
		a.Targets = append(a.Targets, list.targets[i])
	}
}

// pageAll pages the audiences of events, in so many pages each at most.
func (d *Deliverer) pageAll(ctx context.Context, events []*acceptance, lists map[int]*subscriberList, most int) (err error) {
	byList := map[int][]Page{}
	for _, a := range events {
		pages, ok := byList[a.list]
		if !ok {
			least := StepSize
			if list := lists[a.list]; list.filtered { // about as many get the event
				least = min(maxSparse, StepSize*list.looked/max(1, min(len(a.rows), list.looked)))
			}
			if pages, err = d.pages(ctx, a.event, int64(most), int64(least)); err != nil {
				return err
			}
			byList[a.list] = pages
		}
		a.Pages = pages
	}
	return nil
}

// wakeQueued wakes the queues that the lookup has added to. Webhooks that are paused become queued, so that nothing overtakes
// what was added once the pause is over. Should that fail, the next event sees to it.
func (d *Deliverer) wakeQueued(ctx context.Context, subscribers []db.AddressEventsRow) {
	var added db.UnwokenParams
	var turning []uuid.UUID
	webhooks := map[uuid.UUID]history.Webhook{}
	for _, s := range subscribers {
		if s.Turns && s.Seq != 0 {
			turning = append(turning, s.ID)
		}
		if _, known := webhooks[s.ID]; s.Seq != 0 && !known {
			added.WebhookIds, added.Seqs, added.DueAts = append(added.WebhookIds, s.ID), append(added.Seqs, s.Seq), append(added.DueAts, s.DueAt)
			webhooks[s.ID] = history.Webhook{WebhookID: s.ID, BotID: s.BotID, Host: webhook.HostOf(s.Origin)}
		}
	}
	if len(turning) > 0 {
		if err := d.queries.TurnQueued(ctx, d.cfg.Pool, turning); err != nil {
			d.cfg.Logger.Warn("could not turn paused webhooks queued", "count", len(turning), "error", err)
		}
	}
	if len(added.WebhookIds) > 0 {
		failpoint.Here("queued")
		d.recorder.WakeQueues(ctx, added, webhooks)
	}
}

// wakeAddressed wakes the queues that the lookup has added to: those of subscribers, and of ordered webhooks beyond a full page.
func (d *Deliverer) wakeAddressed(ctx context.Context, all []*acceptance, subscribers []db.AddressEventsRow) error {
	d.wakeQueued(ctx, subscribers)
	read := map[int]int{}
	for _, s := range subscribers {
		read[int(s.List)]++
	}
	var ids []string
	for _, a := range all {
		if read[a.list] > PageSize {
			ids = append(ids, a.event.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	rows, err := d.queries.OrderedRows(ctx, d.cfg.Pool, ids)
	if err != nil {
		return fmt.Errorf("look up ordered webhooks: %w", err)
	}
	var added db.UnwokenParams
	webhooks := make(map[uuid.UUID]history.Webhook, len(rows))
	for _, row := range rows {
		added.WebhookIds, added.Seqs, added.DueAts = append(added.WebhookIds, row.WebhookID), append(added.Seqs, row.Seq), append(added.DueAts, row.DueAt)
		webhooks[row.WebhookID] = history.Webhook{WebhookID: row.WebhookID, BotID: row.BotID, Host: webhook.HostOf(row.Origin)}
	}
	d.recorder.WakeQueues(ctx, added, webhooks)
	return nil
}

// handAll puts what the first attempts at new events need into the prefetch.
func (d *Deliverer) handAll(all []*acceptance, lists map[int]*subscriberList, readAt time.Time) {
	inputs := map[int][]attemptInput{}
	for _, a := range all {
		if !a.fresh || a.Pages != nil {
			continue
		}
		list := lists[a.list]
		if _, read := inputs[a.list]; !read {
			inputs[a.list] = d.inputsOf(list.rows, readAt)
		}
		for _, i := range list.of(a) {
			in := inputs[a.list][i]
			if in.event = a.event; in.url != "" {
				d.prefetch.put(First(a.event.ID, list.rows[i].ID).key(), in)
			}
		}
	}
}

// inputsOf are what attempts at webhooks need, but for the event; zero where they need nothing, or Run has to find out what
// is wrong.
func (d *Deliverer) inputsOf(list []db.AddressEventsRow, readAt time.Time) []attemptInput {
	inputs, now := make([]attemptInput, len(list)), time.Now()
	for i, s := range list {
		if s.Queued || d.mayNot(webhook.TriggerEvent, s.Verified) {
			continue
		}
		endpoint, err := d.open(s.ID, sealedEndpoint{s.URL, s.Secret, s.PreviousSecret, s.Extras})
		if err != nil {
			continue
		}
		inputs[i] = attemptInput{endpoint: endpoint, botID: s.BotID, generation: s.Generation, verified: s.Verified, readAt: readAt, acceptedAt: now}
		if s.FailureCount > 0 {
			inputs[i].failureRun = s.FailureRun
		}
	}
	return inputs
}

// withoutServed leaves out the targets that were sent an event already, or in whose queue it stands.
func (d *Deliverer) withoutServed(ctx context.Context, events []*acceptance, targets []Target) error {
	pairs := db.ServedOfParams{FirstID: uuid.Max}
	for _, a := range events {
		if first := webhook.DeliveryID(a.event.StoredAt, uuid.Nil); bytes.Compare(first[:], pairs.FirstID[:]) < 0 {
			pairs.FirstID = first
		}
		if last := webhook.DeliveryID(a.event.StoredAt, uuid.Max); bytes.Compare(last[:], pairs.LastID[:]) > 0 {
			pairs.LastID = last
		}
		for _, n := range a.Targets {
			pairs.EventIds, pairs.WebhookIds = append(pairs.EventIds, a.event.ID), append(pairs.WebhookIds, targets[n].WebhookID)
		}
	}
	if len(pairs.EventIds) == 0 {
		return nil
	}
	served, err := d.queries.ServedOf(ctx, d.cfg.Pool, pairs)
	if err != nil {
		return fmt.Errorf("look up earlier deliveries: %w", err)
	}
	skip := make(map[db.ServedOfRow]bool, len(served))
	for _, pair := range served {
		skip[pair] = true
	}
	for _, a := range events {
		a.Targets = slices.DeleteFunc(a.Targets, func(n int) bool {
			return skip[db.ServedOfRow{EventID: a.event.ID, WebhookID: targets[n].WebhookID}]
		})
	}
	return nil
}
