package history

import (
	"context"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/internal/web"
	"github.com/mathub/webhooks/webhook"
)

// Newest is the Before of the first page.
const Newest = math.MaxInt64

// recordedWithin is how much later than the attempt a delivery may be recorded: rows are in the order of their recording, and a
// span of time is looked for by that much more.
const recordedWithin = 10 * time.Minute

// NoStatus is the Status of attempts that got no response.
const NoStatus = -1

// MaxErrorLength bounds, in bytes, what a delivery's error is compared with.
const MaxErrorLength = 200

// ValidError says whether a delivery's error can be compared with a text.
func ValidError(text string) bool {
	return len(text) <= MaxErrorLength && !strings.ContainsRune(text, 0)
}

// Failure says which failures are wanted. Its zero value wants all deliveries.
type Failure struct {
	// Error is a delivery's error, or what stands before its colon, such as "tls"; "": any.
	Error string
	// Status is the first digit of the status code, or NoStatus; 0: any.
	Status int
}

// StatusClasses are the texts of Failure's Status.
var StatusClasses = []string{"2xx", "3xx", "4xx", "5xx", "none"}

// ParseStatus reads one of StatusClasses.
func ParseStatus(text string) (status int, ok bool) {
	i := slices.Index(StatusClasses, text)
	if text == "none" {
		return NoStatus, true
	}
	return i + 2, i >= 0
}

// StatusText is the text of a Status, "" of 0.
func StatusText(status int) string {
	switch status {
	case NoStatus:
		return "none"
	case 0:
		return ""
	}
	return StatusClasses[status-2]
}

// Filter says which deliveries are wanted.
type Filter struct {
	Success   *bool   // nil: all
	EventType *string // nil: all
	EventID   string  // "": all
	Trigger   string  // "": all
	Failure
	// Since and Until bound the time of the attempt, both ends included; the zero time does not.
	Since, Until time.Time
	// Before is the seq of the delivery before which the page begins; the first page begins before Newest.
	Before int64
	Limit  int
}

// Page is a part of the history.
type Page struct {
	Deliveries []db.GetDeliveriesRow // newest first
	// Next is the Before of the next page: the seq of the last one shown, or of the last one looked at. 0: this is the last page.
	Next int64
}

// Deliveries reads a page of some webhooks' deliveries, with payloads and responses of about maxBytes at most.
func (r *Reader) Deliveries(ctx context.Context, webhookIDs []uuid.UUID, f Filter, maxBytes int64) (Page, error) {
	found, next, err := r.List(ctx, webhookIDs, f)
	if err != nil {
		return Page{}, err
	}
	ids := make([]uuid.UUID, len(found))
	for i, d := range found {
		ids[i] = d.ID
	}
	rows, err := db.New().GetDeliveries(ctx, r.Pool, db.GetDeliveriesParams{Ids: ids, WebhookIds: webhookIDs, Bytes: maxBytes})
	if n := len(rows); n > 0 && rows[n-1].ID != ids[len(ids)-1] { // the others are too large for this page
		next = rows[n-1].Seq
	}
	return Page{Deliveries: rows, Next: next}, err
}

// List reads a page of some webhooks' deliveries without what is large, and the Before of the next page, or 0. It
// looks at webhook.MaxDeliveriesRead deliveries at most, at first at as many as the page has: most filters find enough soon.
func (r *Reader) List(ctx context.Context, webhookIDs []uuid.UUID, f Filter) (found []db.PageOfDeliveriesRow, next int64, err error) {
	if len(webhookIDs) == 0 {
		return nil, 0, nil
	}
	in, err := r.lookFor(ctx, webhookIDs, f)
	if err != nil {
		return nil, 0, err
	}
	for left := webhook.MaxDeliveriesRead; ; {
		in.Most = int32(f.Limit + 1 - len(found)) // one more, which says whether there is a next page
		in.MostEach = max(1, min(in.MostEach, int64(left/len(webhookIDs))))
		rows, err := db.New().PageOfDeliveries(ctx, r.Pool, in)
		if err != nil {
			return nil, 0, err
		}
		for _, row := range rows {
			if row.Wanted {
				found = append(found, row)
			}
		}
		left -= int(in.MostEach) * len(webhookIDs)
		switch n := len(rows); {
		case len(found) > f.Limit:
			return found[:f.Limit], found[f.Limit-1].Seq, nil
		case n == 0 || !rows[n-1].IsLast:
			return found, 0, nil
		case left < len(webhookIDs):
			return found, rows[n-1].Seq, nil
		default:
			in.Before, in.MostEach = rows[n-1].Seq, 4*in.MostEach
		}
	}
}

// lookFor is what the first look at the history asks for.
func (r *Reader) lookFor(ctx context.Context, webhookIDs []uuid.UUID, f Filter) (db.PageOfDeliveriesParams, error) {
	in := db.PageOfDeliveriesParams{
		WebhookIds: webhookIDs, FromSeqs: make([]int64, len(webhookIDs)), BeforeSeqs: make([]int64, len(webhookIDs)),
		EventID: f.EventID, Success: f.Success, EventType: f.EventType, Trigger: f.Trigger, Error: f.Error, StatusClass: int32(f.Status),
		Before: f.Before, MostEach: int64(f.Limit + 1), Since: f.Since, Until: f.Until,
	}
	if in.Until.IsZero() {
		in.Until = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	if in.Success == nil && (f.Error != "" || f.Status == NoStatus || f.Status > 2) {
		in.Success = new(bool) // what has an error has failed, and failures have an index
	}
	for i := range in.BeforeSeqs {
		in.BeforeSeqs[i] = Newest
	}
	if f.Since.IsZero() && f.Until.IsZero() {
		return in, nil
	}
	spans, err := db.New().SeqsOfSpan(ctx, r.Pool, db.SeqsOfSpanParams{
		WebhookIds: webhookIDs, Since: in.Since.Add(-recordedWithin), Until: in.Until.Add(recordedWithin),
	})
	for i, span := range spans {
		in.FromSeqs[i], in.BeforeSeqs[i] = span.FromSeq, span.BeforeSeq
	}
	return in, err
}

// ParsePlace reads what a page's link has as the Before of the next, which leads on whatever is removed meanwhile, or finds the place
// of a delivery of one of the webhooks by its id. Not found: it is neither, or the delivery is gone.
func (r *Reader) ParsePlace(ctx context.Context, webhookIDs []uuid.UUID, text string) (int64, error) {
	if seq, err := strconv.ParseInt(text, 10, 64); err == nil && seq > 0 {
		return seq, nil
	}
	id, err := web.ParseID(text)
	if err != nil {
		return 0, err
	}
	seq, err := db.New().DeliverySeq(ctx, r.Pool, db.DeliverySeqParams{ID: id, WebhookIds: webhookIDs})
	return seq, problem.OrNotFound(err)
}
