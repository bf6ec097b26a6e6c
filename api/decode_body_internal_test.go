package api

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"testing/iotest"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/problem"
)

// TestABodyThatComesTooLateIsNotAtFault: an emitter would set the event aside.
func TestABodyThatComesTooLateIsNotAtFault(t *testing.T) {
	t.Parallel()
	for err, kind := range map[error]problem.Kind{os.ErrDeadlineExceeded: problem.Late, io.ErrUnexpectedEOF: problem.Malformed} {
		c := &gin.Context{Request: httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", iotest.ErrReader(err))}
		_, got := readBody(c, 10)
		require.True(t, problem.Is(got, kind), "%v", got)
	}
}
