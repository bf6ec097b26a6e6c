// Package subscriptions holds the rules about bots' webhooks and their recoveries, behind the bot API, the service API and
// whatever else shows them.
package subscriptions

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/client"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/audit"
	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/internal/searchattr"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows"
)

// MaxListed is how many webhooks one call lists: all that a bot may have.
const MaxListed = webhook.MostWebhooksPerBot

// deletedAtOnce is how many deliveries the deletion of a webhook waits for. Nobody can read the others, and workers remove
// them.
const deletedAtOnce = 1000

// wakeTimeout bounds what the caller waits for Temporal, once the webhook is stored.
const wakeTimeout = 500 * time.Millisecond

// Service reads and changes webhooks. Its errors are of package problem, of package webhook for invalid input, or of the
// database.
type Service struct {
	Pool              *pgxpool.Pool
	Temporal          client.Client
	Attributes        *searchattr.Attributes
	Keyset            *db.Keyset
	URLRules          webhook.URLRules
	MaxWebhooksPerBot int
	Verification      webhook.Verification
	Retention         webhook.Retention
	Logger            *slog.Logger

	sends sends
}

// URL is a webhook's URL in clear. It may hold a token: it is for the webhook's owner only.
func (s *Service) URL(w db.Webhook) (string, error) { return s.Keyset.OpenURL(w.ID, w.URL) }

// Get reads a bot's webhook. Another bot's is not found.
func (s *Service) Get(ctx context.Context, botID string, id uuid.UUID) (db.Webhook, error) {
	w, err := db.New().GetWebhook(ctx, s.Pool, db.GetWebhookParams{ID: id, BotID: botID})
	return w, problem.OrNotFound(err)
}

// IDs are those of all webhooks of a bot.
func (s *Service) IDs(ctx context.Context, botID string) ([]uuid.UUID, error) {
	return db.New().WebhookIDs(ctx, s.Pool, botID)
}

// GetOfAny reads a webhook whosesoever it is.
func (s *Service) GetOfAny(ctx context.Context, id uuid.UUID) (db.Webhook, error) {
	w, err := db.New().WebhookOfAny(ctx, s.Pool, id)
	return w, problem.OrNotFound(err)
}

// List returns up to MaxListed of a bot's webhooks after the one with that id, which may have been deleted: oldest first, as ids are
// in the order of their making. more: there are others. after is uuid.Nil for the first page.
func (s *Service) List(ctx context.Context, botID string, after uuid.UUID) (rows []db.Webhook, more bool, err error) {
	rows, err = db.New().WebhooksOfBotAfter(ctx, s.Pool, db.WebhooksOfBotAfterParams{BotID: botID, After: after, Most: MaxListed + 1})
	if len(rows) > MaxListed {
		return rows[:MaxListed], true, err
	}
	return rows, false, err
}

// Create subscribes an endpoint. duplicateOf is another webhook of the bot that gets some of the same events at the same
// URL, or nil.
func (s *Service) Create(ctx context.Context, botID string, in Input) (w db.Webhook, duplicateOf *uuid.UUID, err error) {
	if err := in.Check(s.URLRules, true); err != nil {
		return w, nil, err
	}
	id := uuid.Must(uuid.NewV7())
	sealed, err := s.seal(id, in)
	if err != nil {
		return w, nil, err
	}
	headers, err := webhook.CustomHeaders(nil).With(in.Headers)
	if err != nil {
		return w, nil, err
	}
	extras, err := s.Keyset.SealExtras(id, db.Extras{Headers: headers})
	if err != nil {
		return w, nil, err
	}
	q := db.New()
	err = audit.Tx(ctx, s.Pool, s.Logger, func(tx pgx.Tx, note func(audit.Change) error) error {
		// One at a time for each bot, so that two calls at once do not both take the last place.
		if err := q.LockBot(ctx, tx, botID); err != nil {
			return err
		}
		n, err := q.CountWebhooks(ctx, tx, botID)
		if err != nil {
			return err
		}
		if n >= int64(s.MaxWebhooksPerBot) {
			return &problem.Error{Kind: problem.Conflict, Detail: fmt.Sprintf("A bot can have at most %d webhooks.", s.MaxWebhooksPerBot)}
		}
		w, err = q.CreateWebhook(ctx, tx, db.CreateWebhookParams{
			ID: id, BotID: botID, URL: sealed.url, Origin: *sealed.origin, Name: in.Name, Events: in.Events, Filter: in.Filter.JSON(), Secret: sealed.secret,
			Extras: extras, HeaderNames: headers.Names(), Ordered: in.Ordered != nil && *in.Ordered,
		})
		if err != nil {
			return err
		}
		if err := note(audit.Change{Action: audit.WebhookCreated, BotID: w.BotID, Subject: w.ID.String(), After: auditFields(w)}); err != nil {
			return err
		}
		if duplicateOf, err = s.duplicateOf(ctx, tx, w); err != nil || !s.Verification.AtOnce() {
			return err
		}
		return history.PlanVerification(ctx, tx, w.ID, w.BotID)
	})
	if err != nil {
		return w, nil, err
	}
	if s.Verification.AtOnce() {
		s.wakeSoon(ctx, w)
	}
	return w, duplicateOf, nil
}

// Update changes a bot's webhook. It removes planned deliveries that the webhook no longer subscribes to, and verifies a new
// endpoint. It is idempotent.
func (s *Service) Update(ctx context.Context, before db.Webhook, in Input) (w db.Webhook, duplicateOf *uuid.UUID, err error) {
	in.present = before.Events
	if err := in.Check(s.URLRules, false); err != nil {
		return w, nil, err
	}
	if in.nothing() {
		return before, nil, nil
	}
	sealed, err := s.seal(before.ID, in)
	if err != nil {
		return w, nil, err
	}
	return s.update(ctx, db.UpdateWebhookParams{
		ID: before.ID, BotID: before.BotID, URL: sealed.url, Origin: sealed.origin, SetName: in.SetName, Name: in.Name, Events: in.Events, SetSecret: in.SetSecret,
		Secret: sealed.secret, OverlapSeconds: in.SecretOverlap.Seconds(), IsActive: in.IsActive, Ordered: in.Ordered, DisabledReason: "owner",
	}, in)
}

// maxNoteLength bounds what an operator says about a disabled webhook, in characters.
const maxNoteLength = 200

// SetActive enables or disables a webhook as an operator asks. note, if not nil, is what its owner reads about a disabled one.
func (s *Service) SetActive(ctx context.Context, before db.Webhook, active bool, note *string) (db.Webhook, error) {
	if note != nil {
		faults := &problem.Faults{}
		faults.Check(webhook.CheckName("disabledNote", *note, maxNoteLength))
		if active {
			faults.Add("disabledNote", "requires isActive: false")
		}
		if err := faults.Err(); err != nil {
			return db.Webhook{}, err
		}
	}
	w, _, err := s.update(ctx, db.UpdateWebhookParams{
		ID: before.ID, BotID: before.BotID, IsActive: &active, DisabledReason: "operator", DisabledNote: note,
	}, Input{IsActive: &active})
	return w, err
}

// update makes a change; in is the same in clear.
func (s *Service) update(ctx context.Context, change db.UpdateWebhookParams, in Input) (w db.Webhook, duplicateOf *uuid.UUID, err error) {
	q := db.New()
	change.SettleSeconds = history.OrderSettles.Seconds()
	err = audit.Tx(ctx, s.Pool, s.Logger, func(tx pgx.Tx, note func(audit.Change) error) error {
		if err := db.LockWebhook(ctx, tx, change.ID); err != nil {
			return err
		}
		if w, err = q.GetWebhook(ctx, tx, db.GetWebhookParams{ID: change.ID, BotID: change.BotID}); err != nil {
			return problem.OrNotFound(err)
		}
		if err = in.begin(ctx, tx, w); err != nil {
			return err
		}
		if err := changeFilter(&change, w, in); err != nil {
			return err
		}
		if err := s.leaveOutEqual(&change, w, in); err != nil {
			return err
		}
		if changes(change) {
			before := w
			if w, err = q.UpdateWebhook(ctx, tx, change); err != nil {
				return err
			}
			if err := noteUpdate(note, before, w, change, in.Headers); err != nil {
				return err
			}
			if err := s.updatePlanned(ctx, tx, change, before, w); err != nil {
				return err
			}
		}
		if in.URL != nil || in.Events != nil || in.SetFilter {
			duplicateOf, err = s.duplicateOf(ctx, tx, w)
		}
		return err
	})
	if err == nil {
		s.wakeChanged(ctx, change, w)
	}
	return w, duplicateOf, err
}

// wakeChanged wakes the queue of a webhook that a change gives something to do: a verification, another order, or, of one that is
// ordered, a retry that it waited for, be it at another URL, or what waited behind an event that it does not get any more.
func (s *Service) wakeChanged(ctx context.Context, change db.UpdateWebhookParams, w db.Webhook) {
	retries := w.Ordered && (change.IsActive != nil && *change.IsActive || change.Events != nil || change.URL != nil)
	if change.URL != nil && s.Verification.AtOnce() || change.Ordered != nil || retries {
		s.wakeSoon(ctx, w)
	}
}

// updatePlanned removes what a changed webhook no longer gets, orders what waits, and plans that another endpoint is asked.
func (s *Service) updatePlanned(ctx context.Context, tx pgx.Tx, change db.UpdateWebhookParams, before, w db.Webhook) error {
	if change.Ordered != nil {
		if err := history.SetOrdered(ctx, tx, before, w.Ordered); err != nil {
			return err
		}
	}
	if change.Events != nil {
		if err := history.RemovePlanned(ctx, tx, w.ID, func() error {
			return db.New().ClearUnsubscribed(ctx, tx, db.ClearUnsubscribedParams{WebhookID: w.ID, MostRead: webhook.MaxDeliveriesRead})
		}); err != nil {
			return err
		}
	}
	if change.URL != nil && s.Verification.AtOnce() {
		if err := history.PlanVerification(ctx, tx, w.ID, w.BotID); err != nil {
			return err
		}
	}
	if !w.IsActive {
		return history.StopWebhooks(ctx, tx, []uuid.UUID{w.ID})
	}
	return nil
}

// leaveOutEqual takes out of a change what the webhook has already: an equal secret is no rotation, which would end the
// overlap of the one before.
func (s *Service) leaveOutEqual(change *db.UpdateWebhookParams, w db.Webhook, in Input) error {
	if in.URL != nil {
		// What no key opens any more is another.
		if present, err := s.URL(w); err == nil && present == *in.URL {
			change.URL, change.Origin = nil, nil
		}
	}
	change.SetName = in.SetName && !equal(in.Name, w.Name)
	if slices.Equal(change.Events, w.Events) {
		change.Events = nil
	}
	if change.IsActive != nil && !*change.IsActive && !w.IsActive && (change.DisabledNote == nil || equal(change.DisabledNote, w.DisabledNote)) {
		change.IsActive = nil
	}
	change.Ordered = unlessEqual(change.Ordered, w.Ordered)
	if err := s.leaveOutSecret(change, w, in); err != nil {
		return err
	}
	return s.changeExtras(change, w, in)
}

// leaveOutSecret is leaveOutEqual for the secret.
func (s *Service) leaveOutSecret(change *db.UpdateWebhookParams, w db.Webhook, in Input) error {
	switch {
	case in.Secret == nil:
		change.SetSecret = change.SetSecret && w.Secret != nil
	case w.Secret != nil:
		present, err := s.Keyset.Open(w.ID, w.Secret)
		if err != nil && in.SecretOverlap > 0 {
			return err // it cannot sign any more, and what is to be signed by it waits
		}
		if change.SetSecret = err != nil || present != *in.Secret; change.SetSecret {
			return in.checkNoOverlap(w)
		}
	}
	return nil
}

// unlessEqual is what is asked for; nil: it is so.
func unlessEqual(asked *bool, is bool) *bool {
	if asked == nil || *asked == is {
		return nil
	}
	return asked
}

func changes(c db.UpdateWebhookParams) bool {
	return c.URL != nil || c.Events != nil || c.IsActive != nil || c.Ordered != nil || c.SetSecret || c.SetName || c.SetExtras || c.SetFilter
}

func equal(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }

// duplicateOf is the oldest other webhook of the bot that delivers some of the same events to the same URL, or nil.
func (s *Service) duplicateOf(ctx context.Context, tx pgx.Tx, w db.Webhook) (*uuid.UUID, error) {
	alike, err := db.New().AlikeWebhooks(ctx, tx, db.AlikeWebhooksParams{BotID: w.BotID, ID: w.ID, Origin: w.Origin, Events: w.Events})
	if err != nil || len(alike) == 0 {
		return nil, err
	}
	url, err := s.URL(w)
	if err != nil {
		return nil, nil //nolint:nilerr,nilnil // one that no key opens any more is like no other
	}
	filter := FilterOf(w)
	for _, other := range alike {
		if !filter.Overlaps(FilterOf(db.Webhook{Filter: other.Filter})) {
			continue
		}
		if same, err := s.Keyset.OpenURL(other.ID, other.URL); err == nil && same == url {
			return &other.ID, nil
		}
	}
	return nil, nil //nolint:nilnil // there is none
}

// wakeSoon has the webhook's queue look at what is planned. What Temporal does not take now, the next sweep does.
func (s *Service) wakeSoon(ctx context.Context, w db.Webhook) {
	ctx, cancel := context.WithTimeout(ctx, wakeTimeout)
	defer cancel()
	if err := workflows.WakeQueue(ctx, s.Temporal, s.Attributes, TargetOf(w)); err != nil {
		s.Logger.Warn("could not wake a webhook's queue; the next sweep does", "webhook", w.ID, "error", err)
	}
}

// Delete deletes a webhook with all that is kept of it.
func (s *Service) Delete(ctx context.Context, w db.Webhook) error {
	q := db.New()
	return audit.Tx(ctx, s.Pool, s.Logger, func(tx pgx.Tx, note func(audit.Change) error) error {
		if err := db.LockWebhook(ctx, tx, w.ID); err != nil {
			return err
		}
		n, err := q.DeleteWebhook(ctx, tx, db.DeleteWebhookParams{ID: w.ID, BotID: w.BotID})
		if err != nil {
			return err
		}
		if n == 0 {
			return problem.ErrNotFound
		}
		if err := note(audit.Change{Action: audit.WebhookDeleted, BotID: w.BotID, Subject: w.ID.String(), Before: auditFields(w)}); err != nil {
			return err
		}
		if err := q.ClearAllQueues(ctx, tx, []uuid.UUID{w.ID}); err != nil {
			return err
		}
		n, err = q.DeleteDeliveries(ctx, tx, db.DeleteDeliveriesParams{WebhookID: w.ID, Most: deletedAtOnce})
		if err != nil || n < deletedAtOnce {
			return err
		}
		return q.LeaveHistory(ctx, tx, []uuid.UUID{w.ID})
	})
}

// TargetOf is the webhook as workflows know it: without the rest of its URL, which may hold a token.
func TargetOf(w db.Webhook) delivery.Target {
	return delivery.Target{WebhookID: w.ID, BotID: w.BotID, Host: webhook.HostOf(w.Origin)}
}
