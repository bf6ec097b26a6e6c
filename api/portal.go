package api

import (
	"context"
	"errors"
	"time"

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
		Client: clientOf(c), Prefix: s.prefix(c),
		HTTPS: len(proto) == 1 && proto[0] == "https" && s.fromProxy(c),
	}
}

// portalLimits are the API's for the portal: an address, or a bot, has no more by using both.
type portalLimits struct{ s *server }

// CheckKey implements portal.Limits.
func (l portalLimits) CheckKey(ctx context.Context, client, key string) (string, uuid.UUID, error) {
	row, err := l.s.findKey(ctx, client, key)
	if err == nil && !row.IsActive {
		err = problem.ErrSuspended
	}
	return row.BotID, row.ID, err
}

// CheckCode implements portal.Limits.
func (l portalLimits) CheckCode(_ context.Context, client string, check func() error) error {
	now := time.Now()
	wrong := l.s.wrongKeys.of(client, now)
	if !wrong.AllowN(now, 1) {
		return tooManyWrong(wrong, now, "codes or keys")
	}
	err := check()
	if !errors.Is(err, bots.ErrWrongCode) {
		wrong.AllowN(time.Now(), -1) // back: it was not wrong
	}
	return err
}

// BeginCall implements portal.Limits.
func (l portalLimits) BeginCall(ctx context.Context, botID string) (func(), error) {
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	if !l.s.calls.begin(ctx, botID) {
		return func() {}, errTooManyCalls
	}
	return func() { l.s.calls.end(botID) }, nil
}
