package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/mathub/webhooks/internal/problem"
)

const (
	// maxCallsPerBot is how many calls of a bot run at once, waiting polls excluded: enough for a page that shows everything,
	// too few to take up the connections to Postgres.
	maxCallsPerBot = 10
	// callPatience is how long a further call waits, long enough for a burst of quick ones.
	callPatience = 2 * time.Second

	// readTimeout bounds a call that the database answers.
	readTimeout = 5 * time.Second
)

const (
	callContextKey   = "call"
	clientContextKey = "client"
	pollPath         = botPrefix + "events"
)

// atOnce counts what is in progress in this process, by bot.
type atOnce struct {
	most int

	mu      sync.Mutex
	n       map[string]int
	waiting map[string][]chan struct{} // in their order; closed for those who are let in
}

func newAtOnce(most int) *atOnce {
	return &atOnce{most: most, n: map[string]int{}, waiting: map[string][]chan struct{}{}}
}

// tryLocked counts one more; false: there are too many. a.mu is held.
func (a *atOnce) tryLocked(key string) bool {
	if a.n[key] >= a.most {
		return false
	}
	a.n[key]++
	return true
}

// begin counts one more, as soon as there are not too many; false: there were until ctx ended.
func (a *atOnce) begin(ctx context.Context, key string) bool {
	a.mu.Lock()
	if a.tryLocked(key) {
		a.mu.Unlock()
		return true
	}
	turn := make(chan struct{})
	a.waiting[key] = append(a.waiting[key], turn)
	a.mu.Unlock()
	select {
	case <-turn:
		return true
	case <-ctx.Done():
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	i := slices.Index(a.waiting[key], turn)
	if i >= 0 {
		a.setWaiting(key, slices.Delete(a.waiting[key], i, i+1))
	}
	return i < 0 // it was let in at this very moment
}

func (a *atOnce) end(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.n[key]--; a.n[key] == 0 {
		delete(a.n, key)
	}
	if first := a.waiting[key]; len(first) > 0 && a.n[key] < a.most {
		a.n[key]++
		close(first[0])
		a.setWaiting(key, first[1:])
	}
}

// setWaiting is called with a.mu held.
func (a *atOnce) setWaiting(key string, waiting []chan struct{}) {
	if a.waiting[key] = waiting; len(waiting) == 0 {
		delete(a.waiting, key)
	}
}

// pause takes one out of the count until resume: it waits and uses nothing. More than most may resume at once.
func (a *atOnce) pause(key string) (resume func()) {
	a.end(key)
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.n[key]++
	}
}

var errTooManyCalls = &problem.Error{Kind: problem.TooManyRequests, Detail: fmt.Sprintf("This bot has %d calls in progress, the most allowed. Wait for one to end.", maxCallsPerBot)}

// beginCall counts a call of a bot until bound has run it.
func (s *server) beginCall(c *gin.Context, botID string) error {
	ctx, cancel := context.WithTimeout(clientContext(c), callPatience)
	defer cancel()
	if !s.calls.begin(ctx, botID) {
		return errTooManyCalls
	}
	c.Set(callContextKey, botID)
	return nil
}

// toItsEnd is the context of what Postgres is asked for a call, which its client does not cut off by hanging up. That would end the
// connection to Postgres, and another is dearer than the answer.
func toItsEnd(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), limit)
}

// clientContext ends when the client hangs up, also where toItsEnd has replaced the request's context.
func clientContext(c *gin.Context) context.Context {
	if ctx, replaced := c.Value(clientContextKey).(context.Context); replaced {
		return ctx
	}
	return c.Request.Context()
}

// bound gives a call its time, and ends what beginCall began, however the call ends. A call that waits, for an event or
// for a delivery, bounds what it asks of the database by itself.
func (s *server) bound(c *gin.Context) {
	defer func() {
		if botID := c.GetString(callContextKey); botID != "" {
			s.calls.end(botID)
		}
	}()
	path := written(c)
	isSend := strings.HasSuffix(path, "/test") || strings.HasSuffix(path, "/redeliver")
	if strings.HasPrefix(path, botPrefix) && path != pollPath && !isSend || strings.HasPrefix(path, servicePrefix) && c.Request.Method == http.MethodGet {
		c.Set(clientContextKey, c.Request.Context())
		ctx, cancel := toItsEnd(c.Request.Context(), readTimeout)
		defer cancel()
		c.Request = c.Request.WithContext(ctx)
	}
	c.Next()
}
