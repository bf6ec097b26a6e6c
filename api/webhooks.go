package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows"
)

// maxSecretOverlap is how long a webhook's secret may sign beside the one that took its place: time for every receiver to
// learn the new one, and no more, as what is replaced may be known to others.
const maxSecretOverlap = 7 * 24 * time.Hour

// maxWebhooksListed is how many webhooks one call lists.
const maxWebhooksListed = 1000

// deletedAtOnce is how many deliveries the deletion of a webhook waits for. Nobody can read the others, and workers remove
// them.
const deletedAtOnce = 1000

// wakeTimeout bounds what the caller waits for Temporal, once the webhook is stored.
const wakeTimeout = 500 * time.Millisecond

// CreateWebhook serves POST /webhooks.
func (s *server) CreateWebhook(c *gin.Context) {
	s.answer(c, func() (reply, error) {
		in, err := s.readWebhook(c, true)
		if err != nil {
			return reply{}, err
		}
		id := uuid.Must(uuid.NewV7())
		sealed, err := s.seal(id, in)
		if err != nil {
			return reply{}, err
		}
		var w db.Webhook
		var duplicateOf *uuid.UUID
		err = db.WithTx(c, s.cfg.Pool, func(tx pgx.Tx) error {
			// One at a time for each bot, so that two calls at once do not both take the last place.
			if err := s.queries.LockBot(c, tx, botID(c)); err != nil {
				return err
			}
			n, err := s.queries.CountWebhooks(c, tx, botID(c))
			if err != nil {
				return err
			}
			if n >= int64(s.cfg.MaxWebhooksPerBot) {
				return &problem.Error{Kind: problem.Conflict, Detail: fmt.Sprintf("A bot may have at most %d webhooks.", s.cfg.MaxWebhooksPerBot)}
			}
			w, err = s.queries.CreateWebhook(c, tx, db.CreateWebhookParams{
				ID: id, BotID: botID(c), URL: sealed.url, Origin: *sealed.origin, Events: in.events, Secret: sealed.secret,
			})
			if err != nil {
				return err
			}
			if duplicateOf, err = s.duplicateOf(c, tx, w); err != nil || !s.cfg.Verification.AtOnce() {
				return err
			}
			return history.PlanVerification(c, tx, w.ID, w.BotID)
		})
		if err != nil {
			return reply{}, err
		}
		s.changed(c, "webhook created", w.BotID, "webhook", w.ID, "host", webhook.HostOf(w.Origin))
		s.verifySoon(c.Request.Context(), w)
		view, err := s.view(w)
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
	page := db.ListWebhooksParams{BotID: botID, Most: maxWebhooksListed + 1}
	if text, given := q.text("after"); given {
		id, _ := parseID(text)
		last, err := s.queries.GetWebhook(c, s.cfg.Pool, db.GetWebhookParams{ID: id, BotID: botID})
		if errors.Is(err, pgx.ErrNoRows) {
			q.Add("after", "must be the id of a webhook of the bot")
		} else if err != nil {
			return nil, err
		}
		page.After = uuid.NullUUID{UUID: last.ID, Valid: true}
	}
	if err := q.Err(); err != nil {
		return nil, err
	}
	rows, err := s.queries.ListWebhooks(c, s.cfg.Pool, page)
	if err != nil {
		return nil, err
	}
	webhooks := make([]Webhook, min(len(rows), maxWebhooksListed))
	for i := range webhooks {
		if webhooks[i], err = s.view(rows[i]); err != nil {
			return nil, err
		}
	}
	list, n := encodeList(webhooks)
	if n < len(rows) {
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
		detail, err := s.detail(c, w)
		return ok(detail), err
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
		if in.nothing() {
			view, err := s.view(before)
			return ok(view), err
		}
		sealed, err := s.seal(before.ID, in)
		if err != nil {
			return reply{}, err
		}
		w, duplicateOf, err := s.update(c.Request.Context(), db.UpdateWebhookParams{
			ID: before.ID, BotID: botID(c), URL: sealed.url, Origin: sealed.origin, Events: in.events, SetSecret: in.setSecret, Secret: sealed.secret, OverlapSeconds: in.overlap.Seconds(), IsActive: in.isActive,
			DisabledReason: "owner",
		}, in)
		if err != nil {
			return reply{}, problem.OrNotFound(err)
		}
		s.changed(c, "webhook changed", w.BotID, "webhook", w.ID, "fields", in.named())
		view, err := s.view(w)
		view.DuplicateOf = duplicateOf
		return ok(view), err
	})
}

// update changes a webhook, and with it what is planned for it: what it no longer gets is planned no longer, and another
// endpoint is asked whether it wants deliveries. in is the same in clear. A call that is repeated changes nothing more.
func (s *server) update(ctx context.Context, change db.UpdateWebhookParams, in webhookInput) (w db.Webhook, duplicateOf *uuid.UUID, err error) {
	err = db.WithTx(ctx, s.cfg.Pool, func(tx pgx.Tx) error {
		if err := db.LockWebhook(ctx, tx, change.ID); err != nil {
			return err
		}
		if w, err = s.queries.GetWebhook(ctx, tx, db.GetWebhookParams{ID: change.ID, BotID: change.BotID}); err != nil {
			return err
		}
		s.leaveOutEqual(&change, w, in)
		if change.URL != nil || change.Events != nil || change.IsActive != nil || change.SetSecret {
			if w, err = s.queries.UpdateWebhook(ctx, tx, change); err != nil {
				return err
			}
			if err := s.updatePlanned(ctx, tx, change, w); err != nil {
				return err
			}
		}
		if in.url != nil || in.events != nil {
			duplicateOf, err = s.duplicateOf(ctx, tx, w)
		}
		return err
	})
	if err == nil && change.URL != nil {
		s.verifySoon(ctx, w)
	}
	return w, duplicateOf, err
}

// updatePlanned removes what a changed webhook no longer gets, and plans that another endpoint is asked.
func (s *server) updatePlanned(ctx context.Context, tx pgx.Tx, change db.UpdateWebhookParams, w db.Webhook) error {
	if change.Events != nil {
		if err := s.queries.ClearUnsubscribed(ctx, tx, db.ClearUnsubscribedParams{WebhookID: w.ID, MostRead: webhook.MaxDeliveriesRead}); err != nil {
			return err
		}
	}
	if change.URL != nil && s.cfg.Verification.AtOnce() {
		if err := history.PlanVerification(ctx, tx, w.ID, w.BotID); err != nil {
			return err
		}
	}
	if !w.IsActive {
		return history.StopWebhooks(ctx, tx, []uuid.UUID{w.ID}, "webhook disabled")
	}
	return nil
}

// duplicateOf is the oldest other webhook of the bot that delivers some of the same events to the same URL, or nil.
func (s *server) duplicateOf(ctx context.Context, tx pgx.Tx, w db.Webhook) (*uuid.UUID, error) {
	alike, err := s.queries.AlikeWebhooks(ctx, tx, db.AlikeWebhooksParams{BotID: w.BotID, ID: w.ID, Origin: w.Origin, Events: w.Events})
	if err != nil || len(alike) == 0 {
		return nil, err
	}
	url, err := s.cfg.Keyset.OpenURL(w.ID, w.URL)
	if err != nil {
		return nil, nil //nolint:nilerr,nilnil // one that no key opens any more is like no other
	}
	for _, other := range alike {
		if same, err := s.cfg.Keyset.OpenURL(other.ID, other.URL); err == nil && same == url {
			return &other.ID, nil
		}
	}
	return nil, nil //nolint:nilnil // there is none
}

// verifySoon has the webhook's queue send the verification that is planned. What Temporal does not take now, the next sweep
// does.
func (s *server) verifySoon(ctx context.Context, w db.Webhook) {
	if !s.cfg.Verification.AtOnce() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, wakeTimeout)
	defer cancel()
	if err := workflows.WakeQueue(ctx, s.cfg.Temporal, s.cfg.Attributes, targetOf(w)); err != nil {
		s.log.Warn("an endpoint is verified with the next sweep", "webhook", w.ID, "error", err)
	}
}

// leaveOutEqual takes out of a change what the webhook has already: an equal secret is no rotation, which would end the
// overlap of the one before.
func (s *server) leaveOutEqual(change *db.UpdateWebhookParams, w db.Webhook, in webhookInput) {
	if in.url != nil {
		// What no key opens any more is another.
		if present, err := s.cfg.Keyset.OpenURL(w.ID, w.URL); err == nil && present == *in.url {
			change.URL, change.Origin = nil, nil
		}
	}
	if slices.Equal(change.Events, w.Events) {
		change.Events = nil
	}
	if change.IsActive != nil && !*change.IsActive && !w.IsActive {
		change.IsActive = nil
	}
	switch {
	case in.secret == nil:
		change.SetSecret = change.SetSecret && w.Secret != nil
	case w.Secret != nil:
		present, err := s.cfg.Keyset.Open(w.ID, w.Secret)
		change.SetSecret = err != nil || present != *in.secret
	}
}

// DeleteWebhook serves DELETE /webhooks/:id.
func (s *server) DeleteWebhook(c *gin.Context, id WebhookID) {
	s.answer(c, func() (reply, error) {
		// Ownership first: a stranger must not be able to hold the lock that deliveries need.
		w, err := s.owned(c, id)
		if err != nil {
			return reply{}, err
		}
		return noContent(), s.delete(c, w)
	})
}

// delete deletes a webhook with all that is kept of it.
func (s *server) delete(c *gin.Context, w db.Webhook) error {
	err := db.WithTx(c, s.cfg.Pool, func(tx pgx.Tx) error {
		if err := db.LockWebhook(c, tx, w.ID); err != nil {
			return err
		}
		n, err := s.queries.DeleteWebhook(c, tx, db.DeleteWebhookParams{ID: w.ID, BotID: w.BotID})
		if err != nil {
			return err
		}
		if n == 0 {
			return problem.ErrNotFound
		}
		if err := s.queries.DeleteQueue(c, tx, w.ID); err != nil {
			return err
		}
		n, err = s.queries.DeleteDeliveries(c, tx, db.DeleteDeliveriesParams{WebhookID: w.ID, Most: deletedAtOnce})
		if err != nil || n < deletedAtOnce {
			return err
		}
		return s.queries.LeaveHistory(c, tx, w.ID)
	})
	if err == nil {
		s.changed(c, "webhook deleted", w.BotID, "webhook", w.ID)
	}
	return err
}

// webhookInput is what a request says of a webhook.
type webhookInput struct {
	url       *string
	events    []string // nil: not said
	isActive  *bool
	setSecret bool
	secret    *string       // nil with setSecret: no secret
	overlap   time.Duration // for which the secret before signs too
}

func (in webhookInput) nothing() bool {
	return in.url == nil && in.events == nil && in.isActive == nil && !in.setSecret
}

// named are the fields that a change names.
func (in webhookInput) named() (fields []string) {
	for _, f := range []struct {
		name string
		is   bool
	}{{"url", in.url != nil}, {"events", in.events != nil}, {"isActive", in.isActive != nil}, {"secret", in.setSecret}} {
		if f.is {
			fields = append(fields, f.name)
		}
	}
	return fields
}

func (s *server) readWebhook(c *gin.Context, isNew bool) (in webhookInput, err error) {
	raw, err := readJSON(c, webhook.MaxRequestBytes)
	if err != nil {
		return in, err
	}
	fields := []string{"url", "events", "secret"}
	if !isNew {
		fields = append(fields, "isActive", "secretOverlap")
	}
	values, err := webhook.ParseObject(raw, fields...)
	if err != nil {
		return in, err
	}
	m := &members{values: values}
	if rawURL, given := m.text("url", isNew); given {
		url, err := s.cfg.URLRules.Check(rawURL)
		m.Check(err)
		in.url = &url
	}
	in.events = m.eventTypes("events", isNew)
	in.isActive = m.boolean("isActive")
	in.setSecret = m.isNull("secret")
	if secret, given := m.text("secret", false); given {
		m.Check(webhook.ValidateSecret(secret))
		in.setSecret, in.secret = true, &secret
	}
	in.overlap = m.duration("secretOverlap", time.Second, maxSecretOverlap)
	if _, given := m.given("secretOverlap"); given && in.secret == nil {
		m.Add("secretOverlap", "must come with a new secret")
	}
	return in, m.Err()
}

// sealed is what a request says of a webhook's URL and secret, as it is stored; nil where it says nothing.
type sealed struct {
	url    []byte
	origin *string
	secret []byte
}

func (s *server) seal(webhookID uuid.UUID, in webhookInput) (out sealed, err error) {
	if in.url != nil {
		if out.url, err = s.cfg.Keyset.SealURL(webhookID, *in.url); err != nil {
			return out, err
		}
		origin := webhook.OriginOf(*in.url)
		out.origin = &origin
	}
	if in.secret != nil {
		out.secret, err = s.cfg.Keyset.Seal(webhookID, *in.secret)
	}
	return out, err
}

// owned reads the bot's webhook. Another bot's, none and a malformed id are all one: not found.
func (s *server) owned(c *gin.Context, id string) (db.Webhook, error) {
	webhookID, err := parseID(id)
	if err != nil {
		return db.Webhook{}, err
	}
	w, err := s.queries.GetWebhook(c, s.cfg.Pool, db.GetWebhookParams{ID: webhookID, BotID: botID(c)})
	return w, problem.OrNotFound(err)
}

func botID(c *gin.Context) string { return c.GetString(botContextKey) }

// parseID takes the canonical form only, in either case (RFC 9562 §4).
func parseID(s string) (uuid.UUID, error) {
	id, err := uuid.Parse(s)
	if err != nil || id.String() != strings.ToLower(s) {
		return uuid.Nil, problem.ErrNotFound
	}
	return id, nil
}

// view is a webhook as its owner sees it.
func (s *server) view(w db.Webhook) (Webhook, error) {
	url, err := s.cfg.Keyset.OpenURL(w.ID, w.URL)
	if err != nil {
		return Webhook{}, err
	}
	view := Webhook{
		ID: w.ID, BotID: w.BotID, URL: url, Events: w.Events, IsActive: w.IsActive, FailureCount: int(w.FailureCount),
		HasSecret: w.Secret != nil, Verified: w.VerifiedAt != nil, VerifiedAt: (*timestamp)(w.VerifiedAt), CreatedAt: timestamp(w.CreatedAt), UpdatedAt: timestamp(w.UpdatedAt),
	}
	if w.PreviousSecretUntil != nil && w.PreviousSecretUntil.After(time.Now()) {
		view.SecretOverlapUntil = (*timestamp)(w.PreviousSecretUntil)
	}
	if !w.IsActive {
		view.DisabledAt, view.DisabledReason = (*timestamp)(w.DisabledAt), w.DisabledReason
		if w.DisabledBy.Valid {
			view.DisabledBy = &w.DisabledBy.UUID
		}
	}
	return view, nil
}
