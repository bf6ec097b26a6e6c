package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/jackc/pgx/v5"
)

const botContextKey = "bot"

// authenticate lets a request through that has the credentials its path asks for. A path that leads nowhere asks for
// those of the API it would be in, so that a stranger learns nothing from it.
func (s *server) authenticate(c *gin.Context) {
	path := written(c)
	switch {
	case strings.HasPrefix(path, botPrefix):
		botID, err := s.botOf(c)
		if err != nil {
			fail(c, s.log, err)
			return
		}
		c.Set(botContextKey, botID)
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

// botOf finds the bot whose key the request carries. The key is looked up by its hash, so that the time it takes
// tells nothing about any key. Only then is the call counted: what is kept in memory is of valid keys.
func (s *server) botOf(c *gin.Context) (string, error) {
	token, err := bearer(c.Request.Header)
	if err != nil {
		return "", err
	}
	hash := hashKey(token)
	botID, err := s.queries.BotByKey(c, s.cfg.Pool, hash)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", unauthorizedf("This key is not valid.")
	}
	if err != nil {
		return "", err
	}
	return botID, s.fairUse.take(c, hash)
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
