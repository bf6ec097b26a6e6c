package api

import (
	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/mathub/webhooks/internal/audit"
	"github.com/mathub/webhooks/internal/web"
	"github.com/mathub/webhooks/webhook"
)

// actAs says in the request's context who makes its changes.
func (s *server) actAs(c *gin.Context, by audit.Actor) {
	by.Client, by.Request = c.ClientIP(), c.Writer.Header().Get(requestIDHeader)
	c.Request = c.Request.WithContext(audit.As(c.Request.Context(), by))
}

// ListAudit serves GET /audit of the bot API.
func (s *server) ListAudit(c *gin.Context, _ ListAuditParams) {
	s.answer(c, func() (reply, error) {
		q, err := readQuery(c, "before")
		if err != nil {
			return reply{}, err
		}
		return s.auditOf(c, q, botID(c))
	})
}

// ListAuditOfAny serves GET /audit of the service API.
func (s *server) ListAuditOfAny(c *gin.Context, _ ListAuditOfAnyParams) {
	s.answer(c, func() (reply, error) {
		q, err := readQuery(c, "botId", "before")
		if err != nil {
			return reply{}, err
		}
		id, given := q.text("botId")
		if given && !webhook.ValidID(id) {
			q.Add("botId", "must be the id of a bot")
		}
		return s.auditOf(c, q, webhook.CanonicalID(id))
	})
}

// auditOf lists the entries of a bot, or all, before the one that the query names.
func (s *server) auditOf(c *gin.Context, q *query, bot string) (reply, error) {
	var before uuid.UUID
	if text, given := q.text("before"); given {
		id, err := web.ParseID(text)
		if before = id; err != nil {
			q.Add("before", "must be the id of an entry")
		}
	}
	if err := q.Err(); err != nil {
		return reply{}, err
	}
	list := s.audit.List
	if botID(c) != "" {
		list = s.audit.ListOwn
	}
	entries, more, err := list(c, bot, before)
	if err != nil {
		return reply{}, err
	}
	views := make([]AuditEntry, len(entries))
	for i, e := range entries {
		views[i] = toAuditEntry(e, botID(c) != "")
	}
	answer, n := encodeList(views)
	if n < len(views) || more {
		q.values.Set("before", views[n-1].ID.String())
		s.linkNext(c, q.values)
	}
	return ok(answer), nil
}

// seenBy is an actor as a reader may see it: who of the operator's side it is, is not for the bot.
func seenBy(by audit.Actor, forBot bool) audit.Actor {
	if forBot && by.Kind != audit.Key && by.Kind != audit.Portal {
		return audit.Actor{Kind: by.Kind}
	}
	return by
}

// toAuditEntry is an entry as its reader may see it.
func toAuditEntry(e audit.Entry, forBot bool) AuditEntry {
	e.By = seenBy(e.By, forBot)
	return AuditEntry{
		ID: e.ID, At: timestamp(e.At), BotID: e.BotID, Action: string(e.Action), Subject: orNull(e.Subject), Before: fields(e.Before), After: fields(e.After),
		Actor: toActor(e.By),
	}
}

func toActor(by audit.Actor) Actor {
	return Actor{
		Kind: string(by.Kind), ID: orNull(by.ID), Name: orNull(by.Name), KeyID: idOrNull(by.KeyID), LinkID: idOrNull(by.LinkID),
		Client: orNull(by.Client), RequestID: orNull(by.Request),
	}
}

// idOrNull is an id; nil: there is none.
func idOrNull(id uuid.UUID) *uuid.UUID {
	if id == uuid.Nil {
		return nil
	}
	return &id
}

func fields(f audit.Fields) *map[string]any {
	if f == nil {
		return nil
	}
	plain := map[string]any(f)
	return &plain
}
