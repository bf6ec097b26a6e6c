package api

import (
	"context"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
)

// ListDeliveries serves GET /webhooks/:id/deliveries.
func (s *server) ListDeliveries(c *gin.Context, id WebhookID, _ ListDeliveriesParams) {
	s.answer(c, func() (reply, error) {
		w, err := s.owned(c, id)
		if err != nil {
			return reply{}, err
		}
		page, query, err := s.readPage(c, w.ID)
		if err != nil {
			return reply{}, err
		}
		found, err := s.queries.PageOfDeliveries(c, s.cfg.Pool, page)
		if err != nil {
			return reply{}, err
		}
		ids, last := turnPage(found, page)
		rows, err := s.queries.GetDeliveries(c, s.cfg.Pool, db.GetDeliveriesParams{Ids: ids, WebhookID: w.ID, Bytes: maxListBytes})
		if err != nil {
			return reply{}, err
		}
		deliveries := make([]Delivery, len(rows))
		for i, row := range rows {
			deliveries[i] = toDelivery(row)
		}
		list, n := encodeList(deliveries)
		if n > 0 && rows[n-1].ID != ids[len(ids)-1] { // the others are too large for this page
			last = &rows[n-1].ID
		}
		if last != nil {
			query.Set("before", last.String())
			s.linkNext(c, query)
		}
		return ok(list), nil
	})
}

// readPage reads which part of the history is asked for: its Most is one more than that, which tells whether there is a
// next page. query is what was asked, for the link to it.
func (s *server) readPage(c *gin.Context, webhookID uuid.UUID) (page db.PageOfDeliveriesParams, query url.Values, err error) {
	q, err := readQuery(c, "success", "eventType", "before", "limit")
	if err != nil {
		return page, nil, err
	}
	page = db.PageOfDeliveriesParams{
		WebhookID: webhookID, Before: math.MaxInt64, MostRead: webhook.MaxDeliveriesRead,
		Success: q.boolean("success"), EventType: q.eventType("eventType"), Most: int32(q.integer("limit", 1, webhook.MaxDeliveriesListed, webhook.MaxDeliveriesListed) + 1),
	}
	if text, given := q.text("before"); given {
		seq, err := s.seqOf(c, webhookID, text)
		switch {
		case err == nil:
			page.Before = seq
		case problem.Of(err).Kind == problem.NotFound:
			q.Add("before", "must be the id of a delivery of this webhook, one that is still kept")
		default:
			return page, nil, err
		}
	}
	return page, q.values, q.Err()
}

func (s *server) seqOf(ctx context.Context, webhookID uuid.UUID, deliveryID string) (int64, error) {
	id, err := parseID(deliveryID)
	if err != nil {
		return 0, err
	}
	seq, err := s.queries.DeliverySeq(ctx, s.cfg.Pool, db.DeliverySeqParams{ID: id, WebhookID: webhookID})
	return seq, problem.OrNotFound(err)
}

// turnPage returns what is to be shown of what was found, and where the next page begins: after the last one shown, or
// after the last one looked at; nil: there is none.
func turnPage(found []db.PageOfDeliveriesRow, page db.PageOfDeliveriesParams) (ids []uuid.UUID, last *uuid.UUID) {
	most := int(page.Most) - 1
	if len(found) > most {
		found, last = found[:most], &found[most-1].ID
	} else if n := len(found); n > 0 && found[n-1].N == page.MostRead {
		last = &found[n-1].ID
	}
	for _, d := range found {
		if d.Wanted {
			ids = append(ids, d.ID)
		}
	}
	return ids, last
}

// deliveryDetail is a delivery with all that is kept of it.
type deliveryDetail struct {
	Delivery
	RequestHeaders  []HeaderField `json:"requestHeaders"`
	ResponseHeaders []HeaderField `json:"responseHeaders"`
	Timings         *Timings      `json:"timings"`
	NextAttempt     *int          `json:"nextAttempt"`
	NextAttemptAt   *timestamp    `json:"nextAttemptAt"`
}

// GetDelivery serves GET /webhooks/:id/deliveries/:deliveryId.
func (s *server) GetDelivery(c *gin.Context, id WebhookID, deliveryID DeliveryID) {
	s.answer(c, func() (reply, error) {
		w, err := s.owned(c, id)
		if err != nil {
			return reply{}, err
		}
		parsed, err := parseID(deliveryID)
		if err != nil {
			return reply{}, err
		}
		row, err := s.delivery(c, w.ID, parsed)
		if err != nil {
			return reply{}, err
		}
		detail := deliveryDetail{Delivery: toDelivery(row)}
		if err := detail.addExchange(row); err != nil {
			return reply{}, err
		}
		if err := s.addPlanned(c, w, &detail); err != nil {
			return reply{}, err
		}
		return ok(detail), nil
	})
}

func (s *server) delivery(ctx context.Context, webhookID, id uuid.UUID) (db.GetDeliveriesRow, error) {
	rows, err := s.queries.GetDeliveries(ctx, s.cfg.Pool, db.GetDeliveriesParams{Ids: []uuid.UUID{id}, WebhookID: webhookID, Bytes: maxListBytes})
	switch {
	case err != nil:
		return db.GetDeliveriesRow{}, err
	case len(rows) == 0:
		return db.GetDeliveriesRow{}, problem.ErrNotFound
	}
	return rows[0], nil
}

func (d *deliveryDetail) addExchange(row db.GetDeliveriesRow) error {
	if row.Exchange == nil {
		return nil
	}
	x, err := history.DecodeExchange(row.Exchange, webhook.Delivery{ID: row.ID, EventID: row.EventID, Type: webhook.EventType(row.EventType)})
	if err != nil {
		return err
	}
	d.RequestHeaders = toFields(x.Request)
	if x.Response != nil {
		d.ResponseHeaders = toFields(x.Response)
	}
	d.Timings = &Timings{
		DNS: toMs(x.Timings.DNS), Connect: toMs(x.Timings.Connect), TLS: toMs(x.Timings.TLS), FirstByte: toMs(x.Timings.FirstByte),
		Total: ms(x.Total),
	}
	return nil
}

// addPlanned says when the event goes to the webhook again: as its queue has it, and not before a failing webhook's pause is
// over. To a disabled webhook nothing goes but what a person has just asked for.
func (s *server) addPlanned(ctx context.Context, w db.Webhook, d *deliveryDetail) error {
	queue := history.Queue{Pool: s.cfg.Pool}
	row, at, planned, err := queue.Planned(ctx, w.ID, d.EventID)
	if err != nil || !planned || !w.IsActive && !row.Trigger.Manual() {
		return err
	}
	at = dueAt(at, w.ResumeAt, time.Now())
	d.NextAttempt, d.NextAttemptAt = &row.Attempt, (*timestamp)(&at)
	return nil
}

// dueAt is when a planned attempt is made: what is due since 1970 goes before all else, and nothing before a failing
// webhook's pause is over.
func dueAt(planned time.Time, resumeAt *time.Time, now time.Time) time.Time {
	switch {
	case planned.Unix() == 0:
		return now
	case resumeAt != nil && resumeAt.After(planned):
		return *resumeAt
	}
	return planned
}

func toDelivery(d db.GetDeliveriesRow) Delivery {
	view := Delivery{
		ID: d.ID, WebhookID: d.WebhookID, EventID: d.EventID, EventType: d.EventType, Payload: d.Payload,
		Attempt: int(d.Attempt), Error: d.Error, Success: d.Success, DurationMs: int(d.DurationMs), AttemptedAt: timestamp(d.AttemptedAt),
		Trigger: string(d.Trigger),
	}
	if d.StatusCode != nil {
		code := int(*d.StatusCode)
		view.StatusCode = &code
	}
	view.BodyDropped = d.Exchange == nil // which each delivery is recorded with
	if d.ResponseBody != nil {
		text := readable(string(d.ResponseBody))
		view.ResponseBody = &text
	}
	return view
}

// readable makes JSON's text of what a receiver sent, which may be anything.
func readable(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// toFields writes headers in the order of their names.
func toFields(h http.Header) []HeaderField {
	fields := make([]HeaderField, 0, len(h))
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, value := range h[name] {
			fields = append(fields, HeaderField{Name: readable(name), Value: readable(value)})
		}
	}
	return fields
}

// toMs is null for a phase that did not come about.
func toMs(d time.Duration) *float64 {
	if d == 0 {
		return nil
	}
	n := ms(d)
	return &n
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// statsSpan is what the statistics of a webhook are of.
const statsSpan = 24 * time.Hour

// webhookDetail is a webhook with how it has been doing.
type webhookDetail struct {
	Webhook
	HistoryRemovedBefore *timestamp `json:"historyRemovedBefore,omitempty"`
	Stats                Stats      `json:"stats"`
}

func (s *server) detail(ctx context.Context, w db.Webhook) (webhookDetail, error) {
	row, err := s.queries.RecentStats(ctx, s.cfg.Pool, db.RecentStatsParams{
		WebhookID: w.ID, Since: time.Now().Add(-statsSpan), MostRead: webhook.MaxDeliveriesRead,
	})
	if err != nil {
		return webhookDetail{}, err
	}
	view, err := s.view(w)
	if err != nil {
		return webhookDetail{}, err
	}
	removed, err := s.webhooks.HistoryRemovedBefore(ctx, w.ID)
	if err != nil {
		return webhookDetail{}, err
	}
	detail := webhookDetail{Webhook: view, HistoryRemovedBefore: (*timestamp)(removed), Stats: Stats{Deliveries24H: int(row.Deliveries)}}
	if row.Deliveries > 0 {
		rate := math.Round(1e4*float64(row.Successes)/float64(row.Deliveries)) / 1e4
		p95 := int(row.P95DurationMs)
		detail.Stats.SuccessRate24H, detail.Stats.P95DurationMs24H = &rate, &p95
	}
	return detail, nil
}
