package api

import (
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/time/rate"
)

// manyKeys is from how many keys on those that have not been used for a minute are forgotten.
const manyKeys = 10_000

// fairUse limits the calls of each bot key. A key may make a minute's worth at once, and then as many as time gives back.
// It counts in this process alone.
type fairUse struct {
	perMinute int // 0: no limit

	mu   sync.Mutex
	keys map[string]*rate.Limiter // by the key's hash
}

func newFairUse(perMinute int) *fairUse {
	return &fairUse{perMinute: perMinute, keys: map[string]*rate.Limiter{}}
}

// take counts a call and tells its caller where the key stands, in the headers of the IETF's draft
// (draft-ietf-httpapi-ratelimit-headers-06): calls in a minute, calls left, and seconds until all are back.
func (f *fairUse) take(c *gin.Context, keyHash []byte) error {
	if f.perMinute == 0 {
		return nil
	}
	now := time.Now()
	limiter := f.limiter(string(keyHash), now)
	allowed := limiter.AllowN(now, 1)
	left := math.Max(0, limiter.TokensAt(now))
	perSecond := float64(limiter.Limit())
	c.Header("RateLimit-Limit", strconv.Itoa(f.perMinute))
	c.Header("RateLimit-Remaining", strconv.Itoa(int(left)))
	c.Header("RateLimit-Reset", seconds((float64(f.perMinute)-left)/perSecond))
	if allowed {
		return nil
	}
	wait := seconds((1 - left) / perSecond)
	c.Header("Retry-After", wait)
	return &Error{code: tooMany, Detail: "This key may make " + strconv.Itoa(f.perMinute) + " calls a minute. Try again in " + wait + " s."}
}

func (f *fairUse) limiter(key string, now time.Time) *rate.Limiter {
	f.mu.Lock()
	defer f.mu.Unlock()
	limiter, known := f.keys[key]
	if known {
		return limiter
	}
	if len(f.keys) >= manyKeys {
		for other, l := range f.keys {
			if l.TokensAt(now) >= float64(f.perMinute) { // as good as new
				delete(f.keys, other)
			}
		}
	}
	limiter = rate.NewLimiter(rate.Limit(float64(f.perMinute)/60), f.perMinute)
	f.keys[key] = limiter
	return limiter
}

// seconds rounds up: who comes back then is let in.
func seconds(s float64) string { return strconv.Itoa(max(1, int(math.Ceil(s)))) }
