package api

import (
	"context"
	"fmt"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/internal/web"
)

// servePortal hands over a request of a browser, with what the trusted proxies say of it.
func (s *server) servePortal(c *gin.Context) {
	s.portal.ServeHTTP(c.Writer, web.WithOrigin(c.Request, s.origin(c)))
}

// origin is where a request comes from.
func (s *server) origin(c *gin.Context) web.Origin {
	proto := c.Request.Header.Values("X-Forwarded-Proto")
	return web.Origin{
		Client: clientOf(c), Address: c.ClientIP(), Prefix: s.prefix(c),
		HTTPS: len(proto) == 1 && proto[0] == "https" && s.fromProxy(c),
	}
}

// CreatePortalLink serves POST /bots/:id/portal-links.
func (s *server) CreatePortalLink(c *gin.Context, id BotID) { s.createPortalLink(c, id, uuid.Nil) }

// CreateOwnPortalLink serves POST /portal-links.
func (s *server) CreateOwnPortalLink(c *gin.Context) {
	s.createPortalLink(c, botID(c), c.MustGet(keyContextKey).(uuid.UUID))
}

// createPortalLink makes a link in the name of a key, or of none.
func (s *server) createPortalLink(c *gin.Context, ofBot string, key uuid.UUID) {
	s.answer(c, func() (reply, error) {
		if s.cfg.Portal.Off {
			return reply{}, &problem.Error{Kind: problem.NotFound, Detail: "The portal is turned off (MATHUB_PORTAL)."}
		}
		if s.isSplit && key == uuid.Nil && s.cfg.PublicURL == "" {
			return reply{}, &problem.Error{Kind: problem.Conflict, Detail: "Set MATHUB_PUBLIC_URL: this listener does not know where bot developers reach the portal."}
		}
		m, err := readOptionalMembers(c, "role", "ttl", "next", "label")
		if err != nil {
			return reply{}, err
		}
		link := bots.PortalLink{Role: bots.Manage, KeyID: key, Lasts: m.duration("ttl", bots.MinPortalLinkTime, bots.PortalLinkTime)}
		if role, given := m.text("role", false); given {
			link.Role = bots.Role(role)
		}
		link.Next, _ = m.text("next", false)
		link.Label, _ = m.text("label", false)
		if err := m.Err(); err != nil {
			return reply{}, err
		}
		code, expires, err := s.bots.CreatePortalLink(c, ofBot, link)
		if err != nil {
			return reply{}, err
		}
		s.listed.add(bots.HashKey(code))
		return created("", PortalLink{URL: bots.PortalLinkURL(s.publicURL(c), code), ExpiresAt: timestamp(expires)}), nil
	})
}

// publicURL is where bot developers reach this service, as far as it is known.
func (s *server) publicURL(c *gin.Context) string {
	if s.cfg.PublicURL != "" {
		return s.cfg.PublicURL
	}
	return s.origin(c).URL(c.Request)
}

// ListPortalSessions serves GET /bots/:id/portal-sessions.
func (s *server) ListPortalSessions(c *gin.Context, id BotID) {
	s.answer(c, func() (reply, error) {
		sessions, err := s.bots.PortalSessions(c, id)
		list := make([]PortalSession, len(sessions))
		for i, session := range sessions {
			list[i] = PortalSession{
				ID: session.ID, Role: string(session.Role), Label: session.Label, KeyID: idOrNull(session.KeyID), LinkID: idOrNull(session.LinkID),
				CreatedAt: timestamp(session.CreatedAt), LastUsedAt: timestamp(session.LastUsedAt), EndsAt: timestamp(session.EndsAt()),
			}
		}
		return ok(list), err
	})
}

// EndPortalSessions serves DELETE /bots/:id/portal-sessions.
func (s *server) EndPortalSessions(c *gin.Context, id BotID) {
	s.answer(c, func() (reply, error) {
		if err := s.bots.EndPortal(c, id); err != nil {
			return reply{}, err
		}
		return noContent(), nil
	})
}

// EndPortalSession serves DELETE /bots/:id/portal-sessions/:sessionId.
func (s *server) EndPortalSession(c *gin.Context, id BotID, sessionID string) {
	s.answer(c, func() (reply, error) {
		parsed, err := web.ParseID(sessionID)
		if err != nil {
			return reply{}, err
		}
		if err := s.bots.EndPortalSession(c, id, parsed); err != nil {
			return reply{}, err
		}
		return noContent(), nil
	})
}

// portalLimits are the API's for the portal: an address, or a bot, has no more by using both.
type portalLimits struct{ s *server }

// CheckKey implements portal.Limits.
func (l portalLimits) CheckKey(ctx context.Context, client, key string) (string, uuid.UUID, error) {
	row, err := l.s.findKey(ctx, client, key)
	if err == nil && !row.IsActive {
		err = problem.Suspended(row.SuspendedReason)
	}
	return row.BotID, row.ID, err
}

// CheckCode implements portal.Limits.
func (l portalLimits) CheckCode(ctx context.Context, client, code string, check func() error) error {
	if !bots.IsCode(code) {
		return check() // it looks nothing up
	}
	return l.s.limitWrong(ctx, client, bots.HashKey(code), "codes or keys", check)
}

// Know implements portal.Limits.
func (l portalLimits) Know(code string) { l.s.listed.add(bots.HashKey(code)) }

// BeginCall implements portal.Limits.
func (l portalLimits) BeginCall(ctx context.Context, botID string) (func(), error) {
	now := l.s.pages.now()
	if limiter := l.s.pages.of(botID); !limiter.AllowN(now, 1) {
		return func() {}, tooMany(limiter, now, fmt.Sprintf("This bot has made %d requests to the portal within a minute, the most allowed.", l.s.cfg.RateLimit))
	}
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	if !l.s.calls.begin(ctx, botID) {
		return func() {}, errTooManyCalls
	}
	return func() { l.s.calls.end(botID) }, nil
}
