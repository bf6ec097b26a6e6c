package api

import (
	"github.com/gin-gonic/gin"
)

// changed says that a call has changed something: what, of which bot, and who called. It is the one place that knows of
// every change; nothing it is given is secret.
func (s *server) changed(c *gin.Context, what, botID string, more ...any) {
	by := "service token"
	if key, ok := c.Get(keyContextKey); ok {
		by = "key"
		more = append(more, "key", key)
	}
	s.log.InfoContext(c, what, append([]any{"bot", botID, "by", by, "request", c.Writer.Header().Get(requestIDHeader), "client", c.ClientIP()}, more...)...)
}
