// Package problem is the application's error: its kind, and a text for the caller. The API maps kinds to
// HTTP, the command line prints the text.
package problem

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/webhook"
)

// Kind says what an error is about.
type Kind int

// The kinds.
const (
	Internal Kind = iota // a fault of ours; its cause is for the log only
	Malformed
	Late // the request did not come in time
	Unauthorized
	Forbidden
	NotFound
	MethodNotAllowed
	Conflict
	Gone
	TooLarge
	UnsupportedMediaType
	Invalid
	TooManyRequests
	Unavailable
)

// Error is an error for the caller.
type Error struct {
	Kind   Kind
	Detail string
	Fields []webhook.FieldError
	// EventIDs are those under which it is safe to emit again.
	EventIDs []string
	// RetryAfter is when to come again, of what is worth another try; 0: soon.
	RetryAfter time.Duration
	Cause      error // for the log only
	// untouched is what did not answer, where nothing was done.
	untouched string
}

// Error is the text for the command line.
func (e *Error) Error() string {
	parts := []string{e.Detail}
	for _, f := range e.Fields {
		parts = append(parts, f.Field+": "+f.Message)
	}
	return strings.Join(parts, " ")
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// ErrNotFound is the answer for what does not exist, and for what is another's.
var ErrNotFound = &Error{Kind: NotFound, Detail: "Not found."}

// ErrSuspended is the answer to every call of a suspended bot.
var ErrSuspended = &Error{Kind: Forbidden, Detail: "The bot is suspended."}

// Suspended is ErrSuspended with the operator's reason; nil: there is none.
func Suspended(reason *string) *Error {
	if reason == nil {
		return ErrSuspended
	}
	return &Error{Kind: Forbidden, Detail: ErrSuspended.Detail + " Reason: " + *reason}
}

// OrNotFound is ErrNotFound where a query found no row, else err.
func OrNotFound(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNotFound
	}
	return err
}

// Is says whether an error is of that kind; nil is of none.
func Is(err error, kind Kind) bool {
	var known *Error
	return errors.As(err, &known) && known.Kind == kind
}

// UnavailableFor says what does not answer, where it is known that nothing was done.
func UnavailableFor(what string, cause error) *Error {
	return &Error{Kind: Unavailable, Detail: what + " does not answer; nothing was done. Try again.", Cause: cause, untouched: what}
}

// UnansweredBy says what has not answered, where what was asked of it may be done all the same.
func UnansweredBy(what string, cause error) *Error {
	return &Error{Kind: Unavailable, Detail: what + " did not answer in time. A change may have been made: check, then try again.", Cause: cause}
}

// listed are the fields of an error, and a line about those that it does not name.
func listed(e *webhook.InvalidError) []webhook.FieldError {
	if e.More == 0 {
		return e.Fields
	}
	more := fmt.Sprintf("has the first %d faults; there are %d more", len(e.Fields), e.More)
	return append(slices.Clip(e.Fields), webhook.FieldError{Field: "errors", Message: more})
}

// In is Of of an error in a context of audit.As: it does not say that nothing was done after a transaction was committed.
func In(ctx context.Context, err error) *Error {
	e := Of(err)
	if e.untouched != "" && db.HasCommitted(ctx) {
		return UnansweredBy(e.untouched, e.Cause)
	}
	return e
}

// Of gives every error its kind: what is not expected is internal.
func Of(err error) *Error {
	var known *Error
	var input *webhook.InvalidError
	var syntax *webhook.SyntaxError
	var unreadable *db.UnreadableError
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &input):
		return &Error{Kind: Invalid, Detail: "The request is invalid; see errors.", Fields: listed(input)}
	case errors.As(err, &syntax):
		e := &Error{Kind: Malformed, Detail: syntax.Error()}
		if syntax.Field != "" {
			e.Fields = []webhook.FieldError{{Field: syntax.Field, Message: syntax.Message}}
		}
		return e
	case db.IsNoText(err):
		return &Error{Kind: Malformed, Detail: "The request has what is no text: text must be UTF-8 without NUL.", Cause: err}
	case db.IsForeignKeyViolation(err): // it was deleted since it was read
		return ErrNotFound
	case errors.Is(err, context.DeadlineExceeded):
		return UnansweredBy("The database", err)
	case errors.As(err, &unreadable): // another process may have the key
		detail := unreadable.What + " cannot be decrypted with this process's keyset. Try again. If it keeps failing, the operator must restore the keyset."
		return &Error{Kind: Unavailable, Detail: "T" + detail[1:], Cause: err}
	case db.IsUnavailable(err) && db.IsUntouched(err):
		return UnavailableFor("The database", err)
	case db.IsUnavailable(err):
		return UnansweredBy("The database", err)
	}
	return &Error{Kind: Internal, Detail: "Internal error.", Cause: err}
}
