package api

import (
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/time/rate"

	"github.com/mathub/webhooks/internal/problem"
)

const (
	// manyLimiters is from how many limiters on those that are as good as new are forgotten, once a second at most.
	manyLimiters = 10_000

	// wrongKeysPerMinute is how many wrong keys of the right form are looked up for an address, as many at once.
	wrongKeysPerMinute = 60
)

// limiters are a limit each for many.
type limiters struct {
	perSecond rate.Limit
	burst     int
	most      int // shared is for those beyond
	now       func() time.Time

	mu     sync.Mutex
	each   map[string]*rate.Limiter
	shared *rate.Limiter
	swept  time.Time
}

func newLimiters(perMinute, most int, now func() time.Time) *limiters {
	perSecond, burst := rate.Limit(float64(perMinute)/60), perMinute
	return &limiters{
		perSecond: perSecond, burst: burst, most: most, now: now,
		each: map[string]*rate.Limiter{}, shared: rate.NewLimiter(100*perSecond, 100*burst),
	}
}

func (l *limiters) of(key string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter, known := l.each[key]
	if known {
		return limiter
	}
	if now := l.now(); len(l.each) >= manyLimiters && now.Sub(l.swept) >= time.Second {
		l.swept = now
		for other, limiter := range l.each {
			if limiter.TokensAt(now) >= float64(l.burst) { // as good as new
				delete(l.each, other)
			}
		}
	}
	if len(l.each) >= l.most {
		return l.shared
	}
	limiter = rate.NewLimiter(l.perSecond, l.burst)
	l.each[key] = limiter
	return limiter
}

const (
	// kibPerSecond is how much of answers a key is sent a second, in KiB, and kibAtOnce how much at once: pages are what a
	// call can cost most by.
	kibPerSecond = 1 << 10
	kibAtOnce    = 8 << 10
)

// newUseLimits are of so many calls a minute of a key, or requests of a bot to the portal; 0: no limit.
func newUseLimits(perMinute int, now func() time.Time) *limiters {
	l := newLimiters(perMinute, math.MaxInt, now)
	if perMinute == 0 {
		l.perSecond = rate.Inf
	}
	return l
}

// fairUse limits the calls of each bot key, and what it is sent. A key may make a minute's worth at once, and then as many as
// time gives back. It counts in this process alone.
type fairUse struct {
	perMinute int       // 0: no limit
	keys      *limiters // by the key's hash, of valid keys: as many as there are
	sent      *limiters // likewise
}

func newFairUse(perMinute int, now func() time.Time) *fairUse {
	f := &fairUse{
		perMinute: perMinute,
		keys:      newUseLimits(perMinute, now), sent: newLimiters(60*kibPerSecond, math.MaxInt, now),
	}
	f.sent.burst = kibAtOnce
	return f
}

// knows says whether the key was valid when it was last looked up here, not long ago.
func (f *fairUse) knows(keyHash []byte) bool {
	f.keys.mu.Lock()
	defer f.keys.mu.Unlock()
	return f.keys.each[string(keyHash)] != nil
}

// forget is for a key that is not valid any more.
func (f *fairUse) forget(keyHash []byte) {
	f.keys.mu.Lock()
	defer f.keys.mu.Unlock()
	delete(f.keys.each, string(keyHash))
	f.sent.mu.Lock()
	defer f.sent.mu.Unlock()
	delete(f.sent.each, string(keyHash))
}

// take counts a call and tells its caller where the key stands, in the headers of the IETF's draft
// (draft-ietf-httpapi-ratelimit-headers-06): calls in a minute, calls left, and seconds until all are back.
func (f *fairUse) take(c *gin.Context, keyHash []byte) error {
	now := f.keys.now()
	limiter := f.keys.of(string(keyHash))
	if f.perMinute == 0 {
		return nil
	}
	allowed := limiter.AllowN(now, 1)
	left := math.Max(0, limiter.TokensAt(now))
	c.Header("RateLimit-Limit", strconv.Itoa(f.perMinute))
	c.Header("RateLimit-Remaining", strconv.Itoa(int(left)))
	c.Header("RateLimit-Reset", seconds((float64(f.perMinute)-left)/float64(limiter.Limit())))
	if !allowed {
		return tooMany(limiter, now, "Rate limit of this key reached: "+strconv.Itoa(f.perMinute)+" calls a minute.")
	}
	sent := f.sent.of(string(keyHash))
	if debt := -sent.TokensAt(now); debt > 0 {
		return tooManyFor(debt/kibPerSecond, "Answer limit of this key reached: 1 MiB a second, with bursts of 8 MiB.")
	}
	c.Set(sentContextKey, sent)
	return nil
}

// tooMany refuses a call until the limiter allows the next.
func tooMany(l *rate.Limiter, now time.Time, why string) error {
	return tooManyFor((1-l.TokensAt(now))/float64(l.Limit()), why)
}

// tooManyFor refuses a call for so many seconds.
func tooManyFor(s float64, why string) error {
	wait := time.Duration(s * float64(time.Second))
	return &problem.Error{Kind: problem.TooManyRequests, RetryAfter: wait, Detail: why + " Try again in " + seconds(wait.Seconds()) + " s."}
}

// charge counts an answer. It may leave the key in debt, for as long as time takes to give that back.
func (f *fairUse) charge(c *gin.Context, bytes int) {
	if sent, limited := c.Value(sentContextKey).(*rate.Limiter); limited {
		sent.ReserveN(f.sent.now(), min(bytes>>10, kibAtOnce))
	}
}

// seconds rounds up: who comes back then is let in.
func seconds(s float64) string { return strconv.Itoa(max(1, int(math.Ceil(s)))) }
