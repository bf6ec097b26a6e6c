package api

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"

	"github.com/gin-gonic/gin"
	"github.com/goccy/go-yaml"
)

// document is the contract as JSON, around the URL of its server. All who ask for it share this memory, whatever the prefix
// under which they reach the API.
type document struct{ before, after []byte }

func newDocument(openAPI []byte) (document, error) {
	indented, err := yaml.YAMLToJSON(openAPI)
	if err != nil {
		return document{}, err
	}
	const open, end = `"servers":[{"url":"`, `"}]`
	before, after, found := bytes.Cut(encode(json.RawMessage(indented)), []byte(open+"/"+end))
	if !found {
		return document{}, errors.New(`its one server must be "/"`)
	}
	return document{slices.Concat(before, []byte(open)), slices.Concat([]byte(end), after)}, nil
}

// OpenAPI serves the contract.
func (s *server) OpenAPI(c *gin.Context) {
	server := cmp.Or(s.prefix(c), "/") // as it stands: no character of a prefix is escaped in JSON
	c.Header("Content-Type", jsonType)
	c.Header("Content-Length", strconv.Itoa(len(s.document.before)+len(server)+len(s.document.after)))
	c.Status(http.StatusOK)
	for _, part := range [][]byte{s.document.before, []byte(server), s.document.after} {
		if _, err := c.Writer.Write(part); err != nil {
			return // it is gone
		}
	}
}
