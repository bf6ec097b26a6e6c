package ops

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/internal/web"
	"github.com/mathub/webhooks/webhook"
)

// What webhooks can be asked for.
var (
	States          = []string{string(Active), string(Queued), string(Failing), string(Disabled), string(Suspended)}
	DisabledReasons = []string{"failures", "owner", "operator"}
	Sorts           = []string{ByCreation, ByDisabling, ByFailures, ByWaiting, ByOldest}
)

// The orders of webhooks. All but the first list only those that the order is about.
const (
	ByCreation  = "created"  // oldest first
	ByDisabling = "disabled" // those that were disabled last, first
	ByFailures  = "failures" // active ones that fail, most failures first
	ByWaiting   = "waiting"  // those with something in the queue, longest queue first
	ByOldest    = "oldest"   // the same, those whose queue has the oldest due delivery first
)

// WebhookFilter says which webhooks are wanted. An empty field asks for all.
type WebhookFilter struct {
	State, DisabledReason, BotID string
	// Host is that of the URL, of any port, or with the port that the URL names.
	Host string
	// ErrorClass is of the last failure.
	ErrorClass string
	// Sort is one of Sorts; "": as the state asks for.
	Sort string
	// After is the next of the page before.
	After string
	Limit int // 0: DefaultListed

	after position
}

// position is a webhook's place in an order: by key, and by id where that is equal.
type position struct {
	key int64
	id  uuid.UUID
}

func (p position) String() string { return strconv.FormatInt(p.key, 10) + "." + p.id.String() }

func parsePosition(text string) (position, bool) {
	number, id, _ := strings.Cut(text, ".")
	key, err := strconv.ParseInt(number, 10, 64)
	parsed, idErr := web.ParseID(id)
	return position{key, parsed}, err == nil && idErr == nil
}

func (p position) compare(o position) int {
	return cmp.Or(cmp.Compare(p.key, o.key), slices.Compare(p.id[:], o.id[:]))
}

func (f *WebhookFilter) check() error {
	faults := &problem.Faults{}
	oneOf := func(field, text string, allowed []string) {
		if text != "" && !slices.Contains(allowed, text) {
			faults.Add(field, "must be one of: "+strings.Join(allowed, ", "))
		}
	}
	oneOf("state", f.State, States)
	oneOf("disabledReason", f.DisabledReason, DisabledReasons)
	oneOf("errorClass", f.ErrorClass, egress.Classes)
	oneOf("sort", f.Sort, Sorts)
	if f.BotID != "" && !webhook.ValidID(f.BotID) {
		faults.Add("botId", "must be the id of a bot")
	}
	if f.DisabledReason != "" && f.State != "" && f.State != string(Disabled) {
		faults.Add("disabledReason", "requires the state disabled")
	}
	checkLimit(&f.Limit, faults)
	f.complete()
	if f.After != "" {
		var ok bool
		f.after, ok = parsePosition(f.After)
		if !ok || f.Sort == ByDisabling && f.after.key < 0 { // a time, of which Postgres does not know the earliest
			faults.Add("after", "must be as the Link of the page before has it")
		}
	}
	return faults.Err()
}

// complete says what follows from the rest.
func (f *WebhookFilter) complete() {
	f.BotID, f.Host = webhook.CanonicalID(f.BotID), strings.ToLower(f.Host)
	if f.DisabledReason != "" {
		f.State = string(Disabled)
	}
	if f.Sort == "" {
		f.Sort = map[string]string{string(Disabled): ByDisabling, string(Failing): ByFailures, string(Queued): ByWaiting}[f.State]
	}
	if f.Sort == "" {
		f.Sort = ByCreation
	}
	if f.Sort == ByFailures && f.State == "" {
		f.State = string(Failing)
	}
}

func (f *WebhookFilter) wants(w *db.Webhook) bool {
	reason := ""
	if w.DisabledReason != nil {
		reason = *w.DisabledReason
	}
	for _, is := range [][2]string{
		{f.State, string(StateOf(w))}, {f.DisabledReason, reason}, {f.BotID, w.BotID}, {f.ErrorClass, w.FailureClass},
	} {
		if is[0] != "" && is[0] != is[1] {
			return false
		}
	}
	host := webhook.HostOf(w.Origin)
	return f.Host == "" || f.Host == host || f.Host == webhook.Hostname(host)
}

// ListWebhooks lists webhooks of any bot. next is the After of the next page; "": this is the last. A page may be short, and
// still have a next one. By failures, waiting and oldest, 10,000 webhooks are looked at.
func (s *Service) ListWebhooks(ctx context.Context, f WebhookFilter) (page []Webhook, next string, err error) {
	if err := f.check(); err != nil {
		return nil, "", err
	}
	var rows []db.Webhook
	switch f.Sort {
	case ByFailures, ByWaiting, ByOldest:
		places := s.byQueue
		if f.Sort == ByFailures {
			places = s.byFailures
		}
		var all []placed
		if all, err = places(ctx, &f); err == nil {
			rows, next, err = s.inPlace(ctx, &f, all)
		}
	default:
		rows, next, err = s.inOrder(ctx, &f)
	}
	if err != nil {
		return nil, "", err
	}
	page, err = s.page(ctx, rows)
	return page, next, err
}

// inOrder lists webhooks in an order that an index has.
func (s *Service) inOrder(ctx context.Context, f *WebhookFilter) (rows []db.Webhook, next string, err error) {
	place := func(w *db.Webhook) position { return position{id: w.ID} }
	if f.Sort == ByDisabling {
		place = func(w *db.Webhook) position { return position{w.DisabledAt.UnixMicro(), w.ID} }
		if f.After == "" {
			f.after = position{math.MaxInt32 * int64(time.Second/time.Microsecond), uuid.Max}
		}
	}
	rows, last, err := scan(f.Limit, func(after *db.Webhook, most int32) ([]db.Webhook, error) {
		at := f.after
		if after != nil {
			at = place(after)
		}
		return s.read(ctx, f, at, most)
	}, f.wants)
	if last != nil {
		next = place(last).String()
	}
	return rows, next, err
}

// read reads the webhooks after one, by the index that leaves most others out.
func (s *Service) read(ctx context.Context, f *WebhookFilter, at position, most int32) ([]db.Webhook, error) {
	q := db.New()
	switch {
	case f.Sort == ByDisabling && f.DisabledReason != "":
		return q.DisabledForBefore(ctx, s.Pool, db.DisabledForBeforeParams{Reason: f.DisabledReason, Before: time.UnixMicro(at.key), BeforeID: at.id, Most: most})
	case f.Sort == ByDisabling:
		return q.DisabledBefore(ctx, s.Pool, db.DisabledBeforeParams{Before: time.UnixMicro(at.key), BeforeID: at.id, Most: most})
	case f.BotID != "":
		return q.WebhooksOfBotAfter(ctx, s.Pool, db.WebhooksOfBotAfterParams{BotID: f.BotID, After: at.id, Most: most})
	case f.Host != "":
		return q.WebhooksAtHostAfter(ctx, s.Pool, db.WebhooksAtHostAfterParams{Host: webhook.Hostname(f.Host), After: at.id, Most: most})
	case f.State == string(Suspended):
		return q.SuspendedWebhooksAfter(ctx, s.Pool, db.SuspendedWebhooksAfterParams{After: at.id, Most: most})
	}
	return q.WebhooksAfter(ctx, s.Pool, db.WebhooksAfterParams{After: at.id, Most: most})
}
