package problem_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"

	"github.com/mathub/webhooks/internal/problem"
)

// TestNothingWasDoneIsSaidOfWhatIsKnown only: who believes it, does it again.
func TestNothingWasDoneIsSaidOfWhatIsKnown(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err   error
		known bool
	}{
		"no connection":           {&pgconn.ConnectError{}, true},
		"a full disk":             {&pgconn.PgError{Code: "53100"}, true},
		"a standby":               {&pgconn.PgError{Code: "25006"}, true},
		"a session that is ended": {&pgconn.PgError{Code: "57P01"}, false},
		"a pooler's lost server":  {&pgconn.PgError{Code: "08P01"}, false},
		"a lost connection":       {io.ErrUnexpectedEOF, false},
		"no answer in time":       {context.DeadlineExceeded, false},
		"no answer of Temporal":   {problem.OfTemporal(serviceerror.NewDeadlineExceeded("")), false},
		"Temporal is not there":   {problem.OfTemporal(serviceerror.NewUnavailable("")), false},
	} {
		e := problem.Of(c.err)
		require.Equal(t, problem.Unavailable, e.Kind, name)
		if c.known {
			require.Contains(t, e.Detail, "nothing was done", name)
		} else {
			require.Contains(t, e.Detail, "A change may have been made", name)
		}
	}
	require.Equal(t, problem.Internal, problem.Of(errors.New("other")).Kind)
}
