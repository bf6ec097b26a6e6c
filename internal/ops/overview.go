package ops

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

const (
	// topListed is how many of each are named in the overview.
	topListed = 5
	// DisabledSpan is for how long a disabled webhook is news.
	DisabledSpan = 24 * time.Hour
)

// Overview is what is wrong now.
type Overview struct {
	At       time.Time
	Findings []Finding // always all, in the same order
}

// IsWrong says whether anything is.
func (o Overview) IsWrong() bool {
	for _, f := range o.Findings {
		if f.IsWrong {
			return true
		}
	}
	return false
}

// Finding is what one question came to.
type Finding struct {
	Name    string // such as disabled
	IsWrong bool   // else it is for information
	Count   int
	AtLeast bool // there may be more than Count
	Summary string
	Items   []Item // a few of them
	// Command shows more of it, or is what to do about it; "": nothing.
	Command string
}

// Item is one of what a finding is about.
type Item struct {
	WebhookID   uuid.NullUUID
	BotID, Host string
	Text        string
	URL         *string // of a workflow's page in Temporal's Web UI
	Fuse        string  // the class of a blown fuse; "": it is about something else
}

// Overview asks all that can be wrong. That Temporal does not answer is a finding, too.
func (s *Service) Overview(ctx context.Context) (Overview, error) {
	o := Overview{At: time.Now().UTC()}
	for _, ask := range []func(context.Context, time.Time) (Finding, error){
		s.disabled, s.failing, s.late, s.waiting, s.slow, s.suspended, s.pauses, s.fuses, s.outbound, s.recoveries, s.retention,
	} {
		f, err := ask(ctx, o.At)
		if err != nil {
			return Overview{}, err
		}
		o.Findings = append(o.Findings, f)
	}
	return o, nil
}

// counted is a count, of which mostCounted are counted.
func (f *Finding) counted(n int64) { f.Count, f.AtLeast = int(n), n >= mostCounted }

// noTemporal is a finding by itself.
func (f *Finding) noTemporal() {
	f.IsWrong, f.Count, f.Summary, f.Command = true, 1, "Temporal does not answer", "mathub-webhooks doctor"
}

func (f *Finding) number() string {
	if f.AtLeast {
		return fmt.Sprintf("%d or more", f.Count)
	}
	return fmt.Sprint(f.Count)
}

func (s *Service) disabled(ctx context.Context, now time.Time) (Finding, error) {
	f := Finding{Name: "disabled", Command: "mathub-webhooks ops webhooks list --disabled-reason failures"}
	since := now.Add(-DisabledSpan)
	n, err := db.New().CountDisabledSince(ctx, s.Pool, db.CountDisabledSinceParams{Since: since, Most: mostCounted})
	if err != nil {
		return f, err
	}
	f.counted(n)
	f.IsWrong, f.Summary = n > 0, "Webhooks disabled by failures within 24 hours: "+f.number()
	top, _, err := s.ListWebhooks(ctx, WebhookFilter{DisabledReason: "failures", Limit: topListed})
	for _, w := range top {
		if w.DisabledAt.After(since) {
			f.Items = append(f.Items, itemOf(w, "disabled "+webhook.FormatTime(*w.DisabledAt)))
		}
	}
	return f, err
}

func (s *Service) failing(ctx context.Context, _ time.Time) (Finding, error) {
	f := Finding{Name: "failing", Command: "mathub-webhooks ops webhooks list --state failing"}
	filter := WebhookFilter{State: string(Failing), Limit: topListed}
	all, err := s.byFailures(ctx, &filter)
	if err != nil {
		return f, err
	}
	f.Count, f.AtLeast, f.IsWrong = len(all), len(all) >= mostRead, len(all) > 0
	f.Summary = "Active webhooks that fail: " + f.number()
	top, err := s.top(ctx, &filter, all)
	for _, w := range top {
		f.Items = append(f.Items, itemOf(w, inARow(w.FailureCount)))
	}
	return f, err
}

func (s *Service) late(ctx context.Context, now time.Time) (Finding, error) {
	f := Finding{Name: "late", Command: "mathub-webhooks ops late"}
	queues, more, err := s.lateQueues(ctx, now.Add(-DefaultLate), maxLateListed)
	f.Count, f.AtLeast, f.IsWrong = len(queues), more, len(queues) > 0
	f.Summary = "Webhooks with deliveries due for more than 5 minutes: " + f.number()
	for _, w := range queues[:min(topListed, len(queues))] {
		f.Items = append(f.Items, itemOf(w, fmt.Sprintf("oldest due %s, %s waiting", webhook.FormatTime(*w.OldestDueAt), waiting(w))))
	}
	return f, err
}

func (s *Service) waiting(ctx context.Context, _ time.Time) (Finding, error) {
	f := Finding{Name: "waiting", Command: "mathub-webhooks ops webhooks list --sort waiting"}
	filter := WebhookFilter{Sort: ByWaiting, Limit: topListed}
	longest, err := s.byQueue(ctx, &filter)
	if err != nil {
		return f, err
	}
	f.Count, f.AtLeast = len(longest), len(longest) >= mostRead
	f.Summary = "Webhooks with deliveries in their queue: " + f.number()
	top, err := s.top(ctx, &filter, longest)
	for _, w := range top {
		f.Items = append(f.Items, itemOf(w, waiting(w)+" waiting"))
	}
	return f, err
}

// top are the first of those whose places are in order.
func (s *Service) top(ctx context.Context, f *WebhookFilter, all []placed) ([]Webhook, error) {
	rows, _, err := s.inPlace(ctx, f, all)
	if err != nil {
		return nil, err
	}
	return s.page(ctx, rows)
}

// waiting is how many deliveries wait, of which mostCounted are counted.
func waiting(w Webhook) string {
	if w.Waiting >= mostCounted {
		return fmt.Sprintf("%d or more", w.Waiting)
	}
	return fmt.Sprint(w.Waiting)
}

// itemOf names a webhook, with what is to be said of it and its last error.
func itemOf(w Webhook, text string) Item {
	if w.LastError != nil {
		text += ": " + *w.LastError
	}
	return Item{WebhookID: uuid.NullUUID{UUID: w.ID, Valid: true}, BotID: w.BotID, Host: w.Host, Text: text}
}

func (s *Service) slow(ctx context.Context, now time.Time) (Finding, error) {
	f := Finding{Name: "slow", Command: "mathub-webhooks ops late"}
	running, more, err := s.lateWorkflows(ctx, now.Add(-DefaultLate), maxLateListed)
	if err != nil {
		f.noTemporal()
		return f, nil //nolint:nilerr // that is the finding
	}
	f.Count, f.AtLeast, f.IsWrong = len(running), more, len(running) > 0
	f.Summary = "Workflows of events that have run for more than 5 minutes: " + f.number()
	for _, w := range running[:min(topListed, len(running))] {
		f.Items = append(f.Items, Item{Text: w.ID + " since " + webhook.FormatTime(w.StartedAt), URL: w.URL})
	}
	return f, nil
}

func (s *Service) suspended(ctx context.Context, _ time.Time) (Finding, error) {
	f := Finding{Name: "suspended", Command: "mathub-webhooks ops bots list --suspended"}
	n, err := db.New().CountSuspendedBots(ctx, s.Pool, mostCounted)
	if err != nil {
		return f, err
	}
	f.counted(n)
	f.Summary = "Suspended bots: " + f.number()
	rows, err := db.New().SuspendedBotsAfter(ctx, s.Pool, db.SuspendedBotsAfterParams{Most: topListed})
	for _, b := range rows {
		item := Item{BotID: b.ID, Text: "since " + webhook.FormatTime(*b.SuspendedAt)}
		if b.SuspendedReason != nil {
			item.Text += ": " + *b.SuspendedReason
		}
		f.Items = append(f.Items, item)
	}
	return f, err
}

func (s *Service) pauses(ctx context.Context, _ time.Time) (Finding, error) {
	f := Finding{Name: "paused", Command: "mathub-webhooks ops pauses list"}
	n, err := db.New().PausesByScope(ctx, s.Pool)
	if err != nil {
		return f, err
	}
	f.Count = int(n.OfAll + n.OfBots + n.OfHosts)
	f.Summary = "Pauses of deliveries: " + f.number()
	list, _, err := (&history.Pauses{Pool: s.Pool}).List(ctx, "", topListed)
	for _, p := range list {
		f.Items = append(f.Items, Item{Text: fmt.Sprintf("%s since %s: %s", p.Of(), webhook.FormatTime(p.Since), p.Reason)})
	}
	return f, err
}

func (s *Service) fuses(ctx context.Context, _ time.Time) (Finding, error) {
	f := Finding{Name: "fuses", Command: "mathub-webhooks fuse reset CLASS"}
	rows, err := history.BlownFuses(ctx, s.Pool)
	f.Count, f.IsWrong = len(rows), len(rows) > 0
	f.Summary = "Blown fuses, classes of failure that disable no webhook as they look like our own network's: " + f.number()
	for _, fuse := range rows {
		f.Items = append(f.Items, Item{Fuse: fuse.Class, Text: fuse.Class + " since " + webhook.FormatTime(fuse.BlownAt)})
	}
	return f, err
}

// accessTimeout is how long the overview waits for a check of outbound access.
const accessTimeout = time.Second

func (s *Service) outbound(ctx context.Context, _ time.Time) (Finding, error) {
	f := Finding{Name: "outbound", Summary: "Outbound access works, as far as workers know", Command: "mathub-webhooks doctor"}
	outages, err := db.New().RecentOutages(ctx, s.Pool, db.RecentOutagesParams{WithinSeconds: reportKept.Seconds(), Most: topListed})
	if err != nil {
		return f, err
	}
	for _, o := range outages {
		f.Items = append(f.Items, Item{Text: fmt.Sprintf("worker %s since %s: %s", o.Worker, webhook.FormatTime(o.Since), o.Cause)})
	}
	if len(outages) == 0 { // this process may just have found out
		f.Items = s.ownOutbound(ctx)
	}
	if f.Count = len(f.Items); f.Count > 0 {
		f.IsWrong, f.Summary = true, "Our own outbound access fails; deliveries wait, and no failure counts"
	}
	return f, nil
}

// ownOutbound is what fails of this process's outbound access.
func (s *Service) ownOutbound(ctx context.Context) (items []Item) {
	if s.OutboundAccess == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, accessTimeout)
	defer cancel()
	known := s.OutboundAccess(ctx)
	for _, part := range []struct {
		name  string
		state egress.AccessState
	}{{"DNS", known.DNS}, {"network", known.Network}} {
		if part.state == egress.AccessFailed {
			items = append(items, Item{Text: part.name + " failed: " + known.Cause})
		}
	}
	return items
}

func (s *Service) recoveries(ctx context.Context, _ time.Time) (Finding, error) {
	f := Finding{Name: "recoveries", Command: "mathub-webhooks ops webhooks recover WEBHOOK --status"}
	n, err := db.New().CountRunningRecoveries(ctx, s.Pool, mostCounted)
	if err != nil {
		return f, err
	}
	f.counted(n)
	f.Summary = "Running recoveries: " + f.number()
	rows, err := db.New().RunningRecoveries(ctx, s.Pool, db.RunningRecoveriesParams{MostRead: mostCounted, Most: topListed})
	for _, r := range rows {
		f.Items = append(f.Items, Item{
			WebhookID: uuid.NullUUID{UUID: r.WebhookID, Valid: true}, BotID: r.BotID, Host: webhook.HostOf(r.Origin),
			Text: fmt.Sprintf("since %s: %d found, %d delivered, %d failed", webhook.FormatTime(r.CreatedAt), r.Found, r.Delivered, r.Failed),
		})
	}
	return f, err
}

func inARow(failures int) string {
	if failures == 1 {
		return "1 failure"
	}
	return fmt.Sprintf("%d failures in a row", failures)
}
