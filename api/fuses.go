package api

import (
	"github.com/gin-gonic/gin"

	"github.com/mathub/webhooks/internal/history"
)

// ListFuses serves GET /fuses.
func (s *server) ListFuses(c *gin.Context) {
	s.answer(c, func() (reply, error) {
		blown, err := history.BlownFuses(c, s.cfg.Pool)
		if err != nil {
			return reply{}, err
		}
		list := make([]Fuse, len(blown))
		for i, f := range blown {
			list[i] = Fuse{Class: f.Class, BlownAt: timestamp(f.BlownAt)}
		}
		return ok(list), nil
	})
}

// ResetFuse serves DELETE /fuses/{class}.
func (s *server) ResetFuse(c *gin.Context, class string) {
	s.answer(c, func() (reply, error) {
		return noContent(), history.ResetFuse(c.Request.Context(), s.cfg.Pool, s.log, class)
	})
}
