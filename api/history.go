package api

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/internal/web"
	"github.com/mathub/webhooks/webhook"
)

// ListDeliveries serves GET /webhooks/:id/deliveries.
func (s *server) ListDeliveries(c *gin.Context, id WebhookID, _ ListDeliveriesParams) {
	s.answer(c, func() (reply, error) {
		w, err := s.owned(c, id)
		if err != nil {
			return reply{}, err
		}
		return s.deliveries(c, w.ID)
	})
}

// ListAllDeliveries serves GET /deliveries.
func (s *server) ListAllDeliveries(c *gin.Context, _ ListAllDeliveriesParams) {
	s.answer(c, func() (reply, error) {
		ids, err := s.webhooks.IDs(c, botID(c))
		if err != nil {
			return reply{}, err
		}
		return s.deliveries(c, ids...)
	})
}

// deliveries answers with the page of some webhooks' deliveries that the query asks for.
func (s *server) deliveries(c *gin.Context, webhookIDs ...uuid.UUID) (reply, error) {
	filter, query, err := s.readFilter(c, webhookIDs)
	if err != nil {
		return reply{}, err
	}
	page, err := s.history.Deliveries(c, webhookIDs, filter, maxListBytes)
	if err != nil {
		return reply{}, err
	}
	deliveries := make([]Delivery, len(page.Deliveries))
	for i, row := range page.Deliveries {
		deliveries[i] = toDelivery(row)
	}
	list, n := encodeList(deliveries)
	if n < len(deliveries) {
		page.Next = page.Deliveries[n-1].Seq
	}
	if page.Next != 0 {
		query.Set("before", strconv.FormatInt(page.Next, 10))
		s.linkNext(c, query)
	}
	return ok(list), nil
}

// readFilter reads which part of the history is asked for. query is what was asked, for the link to the next page.
func (s *server) readFilter(c *gin.Context, webhookIDs []uuid.UUID) (f history.Filter, query url.Values, err error) {
	q, err := readQuery(c, "success", "eventType", "eventId", "trigger", "statusClass", "error", "since", "until", "before", "limit")
	if err != nil {
		return f, nil, err
	}
	f = history.Filter{
		Success: q.boolean("success"), EventType: q.eventType("eventType"), Failure: q.failure(), Before: history.Newest,
		Limit: q.integer("limit", webhook.MaxDeliveriesListed, webhook.MaxDeliveriesListed),
	}
	f.Trigger = q.oneOf("trigger", triggers...)
	if text, given := q.text("eventId"); given {
		if !webhook.ValidID(text) {
			q.Add("eventId", "must be 1 to 128 of the characters A-Z a-z 0-9 _ -")
		}
		f.EventID = webhook.CanonicalID(text)
	}
	if since := q.time("since"); since != nil {
		f.Since = *since
	}
	if until := q.time("until"); until != nil {
		f.Until = *until
	}
	if text, given := q.text("before"); given {
		f.Before, err = s.history.ParsePlace(c, webhookIDs, text)
		switch {
		case problem.Is(err, problem.NotFound):
			q.Add("before", "must be as the Link of the page before has it, or the id of a listed delivery that is still kept")
		case err != nil:
			return f, nil, err
		}
	}
	return f, q.values, q.Err()
}

// triggers are the texts of the triggers.
var triggers = func() (texts []string) {
	for _, t := range webhook.Triggers() {
		texts = append(texts, string(t))
	}
	return texts
}()

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
		parsed, err := web.ParseID(deliveryID)
		if err != nil {
			return reply{}, err
		}
		row, err := s.history.Delivery(c, w.ID, parsed)
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

func (d *deliveryDetail) addExchange(row db.GetDeliveriesRow) error {
	if row.Exchange == nil {
		return nil
	}
	x, err := history.DecodeExchange(row.Exchange, webhook.Delivery{
		ID: row.ID, EventID: row.EventID, Type: webhook.SentType(webhook.EventType(row.EventType), row.Payload),
	})
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

// addPlanned says when the event goes to the webhook again.
func (s *server) addPlanned(ctx context.Context, w db.Webhook, d *deliveryDetail) error {
	next, err := s.webhooks.NextAttempt(ctx, w, d.EventID)
	if err == nil && next != nil {
		d.NextAttempt, d.NextAttemptAt = &next.Number, (*timestamp)(&next.At)
	}
	return err
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
