package api

import (
	"context"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/subscriptions"
	"github.com/mathub/webhooks/internal/web"
	"github.com/mathub/webhooks/webhook"
)

// CreateWebhook serves POST /webhooks.
func (s *server) CreateWebhook(c *gin.Context) {
	s.answer(c, func() (reply, error) {
		in, err := s.readWebhook(c, true)
		if err != nil {
			return reply{}, err
		}
		w, duplicateOf, err := s.webhooks.Create(c.Request.Context(), botID(c), in)
		if err != nil {
			return reply{}, err
		}
		view, err := s.viewNow(c, w)
		view.DuplicateOf = duplicateOf
		return created(botPrefix+"webhooks/"+w.ID.String(), view), err
	})
}

// ListWebhooks serves GET /webhooks.
func (s *server) ListWebhooks(c *gin.Context, _ ListWebhooksParams) {
	s.answer(c, func() (reply, error) {
		q, err := readQuery(c, "after")
		if err != nil {
			return reply{}, err
		}
		list, err := s.webhooksOf(c, q, botID(c))
		return ok(list), err
	})
}

// webhooksOf lists a bot's webhooks after the one that the query names.
func (s *server) webhooksOf(c *gin.Context, q *query, botID string) (list encoded, err error) {
	var after uuid.UUID
	if text, given := q.text("after"); given {
		if after, err = web.ParseID(text); err != nil {
			q.Add("after", "must be the id of a webhook")
		}
	}
	if err := q.Err(); err != nil {
		return nil, err
	}
	rows, more, err := s.webhooks.List(c, botID, after)
	if err != nil {
		return nil, err
	}
	webhooks, err := s.details(c, rows)
	if err != nil {
		return nil, err
	}
	list, n := encodeList(webhooks)
	if n < len(rows) || more {
		q.values.Set("after", rows[n-1].ID.String())
		s.linkNext(c, q.values)
	}
	return list, nil
}

// GetWebhook serves GET /webhooks/:id.
func (s *server) GetWebhook(c *gin.Context, id WebhookID) {
	s.answer(c, func() (reply, error) {
		w, err := s.owned(c, id)
		if err != nil {
			return reply{}, err
		}
		return s.detail(c, w)
	})
}

// UpdateWebhook serves PATCH /webhooks/:id.
func (s *server) UpdateWebhook(c *gin.Context, id WebhookID) {
	s.answer(c, func() (reply, error) {
		before, err := s.owned(c, id) // first, so that another's webhook answers 404 to any body
		if err != nil {
			return reply{}, err
		}
		in, err := s.readWebhook(c, false)
		if err != nil {
			return reply{}, err
		}
		w, duplicateOf, err := s.webhooks.Update(c.Request.Context(), before, in)
		if err != nil {
			return reply{}, err
		}
		view, err := s.viewNow(c, w)
		view.DuplicateOf = duplicateOf
		return ok(view), err
	})
}

// DeleteWebhook serves DELETE /webhooks/:id.
func (s *server) DeleteWebhook(c *gin.Context, id WebhookID) {
	s.answer(c, func() (reply, error) {
		// Ownership first: a stranger must not be able to hold the lock that deliveries need.
		w, err := s.owned(c, id)
		if err != nil {
			return reply{}, err
		}
		return noContent(), s.webhooks.Delete(c, w)
	})
}

// RotateSigningKey serves POST /webhooks/:id/signing-key.
func (s *server) RotateSigningKey(c *gin.Context, id WebhookID) {
	s.answer(c, func() (reply, error) {
		before, err := s.owned(c, id)
		if err != nil {
			return reply{}, err
		}
		m, err := readOptionalMembers(c, "overlap")
		if err != nil {
			return reply{}, err
		}
		overlap := subscriptions.DefaultKeyOverlap
		if _, given := m.given("overlap"); given {
			overlap = m.duration("overlap", 0, subscriptions.MaxSecretOverlap)
		}
		if err := m.Err(); err != nil {
			return reply{}, err
		}
		w, err := s.webhooks.RotateKey(c.Request.Context(), before, overlap)
		if err != nil {
			return reply{}, err
		}
		view, err := s.viewNow(c, w)
		return ok(view), err
	})
}

// RemoveSigningKey serves DELETE /webhooks/:id/signing-key.
func (s *server) RemoveSigningKey(c *gin.Context, id WebhookID) {
	s.answer(c, func() (reply, error) {
		before, err := s.owned(c, id)
		if err != nil {
			return reply{}, err
		}
		_, err = s.webhooks.RemoveKey(c.Request.Context(), before)
		return noContent(), err
	})
}

// PreviewFilter serves POST /filter-preview.
func (s *server) PreviewFilter(c *gin.Context) {
	s.answer(c, func() (reply, error) {
		raw, err := readJSON(c, webhook.MaxRequestBytes)
		if err != nil {
			return reply{}, err
		}
		values, err := webhook.ParseObject(raw, "events", "filter")
		if err != nil {
			return reply{}, err
		}
		m := &members{values: values}
		events := m.eventTypes("events")
		if events == nil && !m.Any() {
			m.Add("events", "is required")
		}
		filter, given := m.filter()
		if !given {
			m.Add("filter", "is required")
		}
		if err := m.Err(); err != nil {
			return reply{}, err
		}
		p, err := s.webhooks.Preview(c.Request.Context(), botID(c), events, filter)
		return ok(FilterPreview{Events: p.Events, Matching: p.Matching}), err
	})
}

// readWebhook reads what a request says of a webhook.
func (s *server) readWebhook(c *gin.Context, isNew bool) (in subscriptions.Input, err error) {
	raw, err := readJSON(c, webhook.MaxRequestBytes)
	if err != nil {
		return in, err
	}
	fields := []string{"url", "name", "events", "filter", "secret", "headers", "ordered"}
	if !isNew {
		fields = append(fields, "isActive", "secretOverlap")
	}
	values, err := webhook.ParseObject(raw, fields...)
	if err != nil {
		return in, err
	}
	m := &members{values: values}
	if url, given := m.text("url", false); given {
		in.URL = &url
	}
	in.SetName = m.isNull("name")
	if name, given := m.text("name", false); given {
		in.SetName, in.Name = true, &name
	}
	in.Events = m.eventTypes("events")
	in.Filter, in.SetFilter = m.filter()
	in.IsActive = m.boolean("isActive")
	in.Ordered = m.boolean("ordered")
	in.SetSecret = m.isNull("secret")
	if secret, given := m.text("secret", false); given {
		in.SetSecret, in.Secret = true, &secret
	}
	in.SecretOverlap = m.duration("secretOverlap", subscriptions.MinSecretOverlap, subscriptions.MaxSecretOverlap)
	in.Headers = m.textsByName("headers")
	if m.Any() { // name the other faults too; Create and Update find them otherwise
		m.CheckOthers(in.Check(s.cfg.URLRules, isNew))
	}
	return in, m.Err()
}

// owned reads the bot's webhook. Another bot's, none and a malformed id are all one: not found.
func (s *server) owned(c *gin.Context, id string) (db.Webhook, error) {
	webhookID, err := web.ParseID(id)
	if err != nil {
		return db.Webhook{}, err
	}
	return s.webhooks.Get(c, botID(c), webhookID)
}

func botID(c *gin.Context) string { return c.GetString(botContextKey) }

// viewNow is a webhook as its owner sees it.
func (s *server) viewNow(ctx context.Context, w db.Webhook) (Webhook, error) {
	paused, err := s.webhooks.Pauses().Covering(ctx, []uuid.UUID{w.ID})
	if err != nil {
		return Webhook{}, err
	}
	return s.view(w, paused), nil
}

// view is a webhook as its owner sees it, given those that are paused. A URL that does not open keeps nobody from the rest.
func (s *server) view(w db.Webhook, paused map[uuid.UUID]history.Pause) Webhook {
	url, err := s.webhooks.URL(w)
	if err != nil {
		url = w.Origin
	}
	view := Webhook{
		Unreadable: orAbsent(err != nil),
		ID:         w.ID, BotID: w.BotID, Name: w.Name, URL: url, Events: w.Events, IsActive: w.IsActive, Ordered: w.Ordered, FailureCount: int(w.FailureCount), FailingSince: (*timestamp)(w.FailingSince),
		HasSecret: w.Secret != nil, HeaderNames: w.HeaderNames, PublicKeys: subscriptions.PublicKeys(w), Verified: w.VerifiedAt != nil, VerifiedAt: (*timestamp)(w.VerifiedAt), CreatedAt: timestamp(w.CreatedAt), UpdatedAt: timestamp(w.UpdatedAt),
	}
	if filter := subscriptions.FilterOf(w); len(filter) > 0 {
		view.Filter = &filter
	}
	if w.PreviousSecretUntil != nil && w.PreviousSecretUntil.After(time.Now()) {
		view.SecretOverlapUntil = (*timestamp)(w.PreviousSecretUntil)
	}
	if p, is := paused[w.ID]; is {
		view.Paused = &WebhookPause{Since: timestamp(p.Since), Reason: p.Reason}
	}
	if !w.IsActive {
		view.DisabledAt, view.DisabledReason = (*timestamp)(w.DisabledAt), w.DisabledReason
		view.DisabledNote = w.DisabledNote
		if w.DisabledBy.Valid {
			view.DisabledBy = &w.DisabledBy.UUID
		}
	}
	return view
}

// orAbsent is nil for false.
func orAbsent(is bool) *bool {
	if !is {
		return nil
	}
	return &is
}

// detail is one webhook with its statistics. One whose URL does not open is an error here, which another process may not have.
func (s *server) detail(c *gin.Context, w db.Webhook) (reply, error) {
	if _, err := s.webhooks.URL(w); err != nil {
		return reply{}, err
	}
	details, err := s.details(c, []db.Webhook{w})
	if err != nil {
		return reply{}, err
	}
	return ok(details[0]), nil
}
