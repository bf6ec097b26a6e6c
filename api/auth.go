package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"golang.org/x/sync/singleflight"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/audit"
	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/listen"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/internal/web"
)

// What a request of a bot carries on: whose key it has, and which.
const botContextKey, keyContextKey, sentContextKey = "bot", "key", "sent"

// authenticate lets a request through that has the credentials its path asks for. A path that leads nowhere asks for
// those of the API it would be in, so that a stranger learns nothing from it.
func (s *server) authenticate(c *gin.Context) {
	path := written(c)
	switch {
	case strings.HasPrefix(path, botPrefix):
		if err := s.authenticateBot(c); err != nil {
			fail(c, s.log, err)
		}
	case strings.HasPrefix(path, servicePrefix):
		if s.cfg.ServiceToken == "" {
			fail(c, s.log, problem.ErrNotFound)
			return
		}
		token, err := bearer(c.Request.Header)
		if err != nil {
			fail(c, s.log, err)
			return
		}
		if !s.isServiceToken(token) {
			fail(c, s.log, unauthorizedf("The service token is not valid."))
			return
		}
		s.actAs(c, audit.Actor{Kind: audit.Service, Name: web.CallerOf(c.Request, s.cfg.TrustedProxies)})
	}
}

// isServiceToken compares hashes, which are of equal length, whatever was sent.
func (s *server) isServiceToken(token string) bool {
	given, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(s.cfg.ServiceToken))
	return s.cfg.ServiceToken != "" && subtle.ConstantTimeCompare(given[:], want[:]) == 1
}

// fromBackend says whether a call of the service API has its token.
func (s *server) fromBackend(c *gin.Context) bool {
	if !strings.HasPrefix(written(c), servicePrefix) {
		return false
	}
	token, err := bearer(c.Request.Header)
	return err == nil && s.isServiceToken(token)
}

// authenticateBot finds the bot of the request's key. It counts the call only for a valid key, so memory holds valid keys
// only.
func (s *server) authenticateBot(c *gin.Context) error {
	token, err := bearer(c.Request.Header)
	if err != nil {
		return err
	}
	hash := bots.HashKey(token)
	known := s.fairUse.knows(hash)
	if known { // what is beyond the key's rate costs no look-up
		if err := s.fairUse.take(c, hash); err != nil {
			return err
		}
	}
	key, err := s.findKey(c.Request.Context(), clientOf(c), token)
	if err != nil {
		return err
	}
	if !known {
		if err := s.fairUse.take(c, hash); err != nil {
			return err
		}
	}
	if !key.IsActive {
		return problem.Suspended(key.SuspendedReason)
	}
	if err := s.takeChange(c, key.BotID); err != nil {
		return err
	}
	if err := s.beginCall(c, key.BotID); err != nil {
		return err
	}
	s.keyUse.Note(key.ID)
	c.Set(botContextKey, key.BotID)
	c.Set(keyContextKey, key.ID)
	s.actAs(c, audit.Actor{Kind: audit.Key, ID: key.ID.String(), Name: bots.KeyLabel(key.Name, key.Prefix)})
	return nil
}

// takeChange counts a call that may change something for the bot, which can make itself any number of keys.
func (s *server) takeChange(c *gin.Context, botID string) error {
	now := s.changes.now()
	if limiter := s.changes.of(botID); c.Request.Method != http.MethodGet && !limiter.AllowN(now, 1) {
		return tooMany(limiter, now, fmt.Sprintf("This bot has made %d calls that may change something within a minute, the most allowed over all its keys.", s.cfg.RateLimit))
	}
	return nil
}

// findKey finds a bot's key. It looks it up by its hash, so the time taken says nothing about any key.
//
// Lookups of wrong keys are limited: the form of a key is checked first, and an address has so many wrong keys a minute.
// Beyond that limit a key is looked up only if it was valid before, or is in a list of all keys a few seconds old. So valid
// keys still work from an address that others share.
func (s *server) findKey(ctx context.Context, client, token string) (key db.BotByKeyRow, err error) {
	if !bots.IsKey(token) {
		return key, bots.ErrWrongKey
	}
	hash := bots.HashKey(token)
	err = s.limitWrong(ctx, client, hash, "keys", func() (err error) {
		key, err = s.lookUpKey(ctx, hash)
		return err
	})
	return key, err
}

// limitWrong looks up a secret by its hash, and counts a wrong one for the client's address.
func (s *server) limitWrong(ctx context.Context, client string, hash []byte, what string, lookUp func() error) error {
	now := s.wrongKeys.now()
	wrong := s.wrongKeys.of(client)
	counted := wrong.AllowN(now, 1) // beforehand, so that many at once are as many as one after the other
	if !counted && !s.fairUse.knows(hash) && !s.lists(ctx, hash) {
		return tooMany(wrong, now, "Too many wrong "+what+" from this address.")
	}
	err := lookUp()
	if errors.Is(err, bots.ErrWrongKey) || errors.Is(err, bots.ErrWrongCode) || errors.Is(err, bots.ErrNoSession) {
		s.fairUse.forget(hash)
		s.listed.forget(hash)
	} else if counted {
		wrong.AllowN(s.wrongKeys.now(), -1) // back: it was not wrong
	}
	return err
}

// listEvery is how often all keys are listed at most, while wrong ones flood in.
const listEvery = 5 * time.Second

// keyList knows keys, and the codes of links and sessions of the portal, by the first bytes of their hashes: enough to tell which ones are worth a look-up.
type keyList struct {
	reads singleflight.Group // so that all who need a newer list wait for one

	mu    sync.Mutex // not held while Postgres is asked
	at    time.Time
	known map[[8]byte]struct{}
}

// find says whether the list has a key, and whether it is new enough.
func (l *keyList) find(hash []byte) (known, fresh bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, known = l.known[[8]byte(hash)]
	return known, time.Since(l.at) < listEvery
}

// set takes the hashes of all keys; nil: they could not be read, and the last list serves on.
func (l *keyList) set(hashes [][]byte) {
	known := make(map[[8]byte]struct{}, len(hashes))
	for _, h := range hashes {
		known[[8]byte(h)] = struct{}{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at = time.Now()
	if hashes != nil {
		l.known = known
	}
}

// add is for what was made since the list was read.
func (l *keyList) add(hash []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known != nil { // it was needed before
		l.known[[8]byte(hash)] = struct{}{}
	}
}

func (l *keyList) forget(hash []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.known, [8]byte(hash))
}

// lists says whether a key or a code was valid when all were listed.
func (s *server) lists(ctx context.Context, hash []byte) bool {
	known, fresh := s.listed.find(hash)
	if fresh {
		return known
	}
	_, _, _ = s.listed.reads.Do("", func() (any, error) {
		ctx, cancel := toItsEnd(ctx, readTimeout)
		defer cancel()
		hashes, _ := s.bots.SecretHashes(ctx)
		s.listed.set(hashes)
		return nil, nil //nolint:nilnil // what it reads is in the list
	})
	known, _ = s.listed.find(hash)
	return known
}

// keyStillValid refuses a key that was revoked, or whose bot was suspended, since the request came.
func (s *server) keyStillValid(c *gin.Context) error {
	ctx, cancel := toItsEnd(c.Request.Context(), readTimeout)
	defer cancel()
	return s.bots.CheckKey(ctx, c.MustGet(keyContextKey).(uuid.UUID))
}

func (s *server) lookUpKey(ctx context.Context, hash []byte) (db.BotByKeyRow, error) {
	ctx, cancel := toItsEnd(ctx, readTimeout)
	defer cancel()
	return s.bots.ByKey(ctx, hash)
}

// clientOf is the client, by its address.
func clientOf(c *gin.Context) string {
	addr, _ := netip.ParseAddr(c.ClientIP()) // the zero address where there is none, as of a local socket
	return listen.Client(addr).String()
}

func bearer(header http.Header) (string, error) {
	values := header.Values("Authorization")
	if len(values) != 1 {
		return "", unauthorizedf("Send exactly one header: Authorization: Bearer <key>.")
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	token = strings.Trim(token, " ")
	if !strings.EqualFold(scheme, "bearer") || token == "" {
		return "", unauthorizedf("Send the header Authorization: Bearer <key>.")
	}
	return token, nil
}
