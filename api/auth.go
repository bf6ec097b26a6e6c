package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// What a request of a bot carries on: whose key it has, and which.
const botContextKey, keyContextKey = "bot", "key"

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
			fail(c, s.log, errNotFound)
			return
		}
		token, err := bearer(c.Request.Header)
		if err != nil {
			fail(c, s.log, err)
			return
		}
		if !s.isServiceToken(token) {
			fail(c, s.log, unauthorizedf("This is not the service token."))
		}
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

// authenticateBot finds the bot whose key the request carries. The key is looked up by its hash, so that the time it takes
// tells nothing about any key. Only then is the call counted: what is kept in memory is of valid keys.
func (s *server) authenticateBot(c *gin.Context) error {
	token, err := bearer(c.Request.Header)
	if err != nil {
		return err
	}
	hash := hashKey(token)
	key, err := s.queries.BotByKey(c, s.cfg.Pool, hash)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return unauthorizedf("This key is not valid.")
	case err != nil:
		return err
	}
	if err := s.fairUse.take(c, hash); err != nil {
		return err
	}
	if !key.IsActive {
		return errSuspended
	}
	c.Set(botContextKey, key.BotID)
	c.Set(keyContextKey, key.ID)
	return nil
}

// keyStillValid refuses a key that was revoked, or whose bot was suspended, since the request came.
func (s *server) keyStillValid(c *gin.Context) error {
	active, err := s.queries.IsKeysBotActive(c, s.cfg.Pool, c.MustGet(keyContextKey).(uuid.UUID))
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return unauthorizedf("This key is not valid.")
	case err == nil && !active:
		return errSuspended
	}
	return err
}

func bearer(header http.Header) (string, error) {
	values := header.Values("Authorization")
	if len(values) != 1 {
		return "", unauthorizedf("Send one Authorization header: Bearer, and a key.")
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	token = strings.Trim(token, " ")
	if !strings.EqualFold(scheme, "bearer") || token == "" {
		return "", unauthorizedf("Send Authorization: Bearer, and a key.")
	}
	return token, nil
}

func hashKey(key string) []byte {
	sum := sha256.Sum256([]byte(key))
	return sum[:]
}
