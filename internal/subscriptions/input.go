package subscriptions

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
)

// MaxSecretOverlap is how long a replaced secret may still sign. Receivers need time to learn the new one, but the old one may
// have leaked.
const MaxSecretOverlap = 7 * 24 * time.Hour

// MaxNameLength bounds a webhook's name, in characters.
const MaxNameLength = 100

// MinSecretOverlap is the least that is no mistake of units.
const MinSecretOverlap = time.Second

// Input is what is asked of a webhook: all of a new one, or what is to change.
type Input struct {
	URL       *string // nil: not said
	SetName   bool
	Name      *string  // nil with SetName: no name
	Events    []string // nil: not said
	SetFilter bool
	Filter    webhook.Filter // empty with SetFilter: no filter
	IsActive  *bool          // nil: not said; a new webhook is active
	Ordered   *bool          // nil: not said; a new webhook is not ordered
	SetSecret bool
	Secret    *string // nil with SetSecret: no secret
	// SecretOverlap is for how long the secret before signs too.
	SecretOverlap time.Duration
	// IfNoOverlap refuses another secret while the one before the present one signs too: that would end, and receivers may have
	// no other.
	IfNoOverlap bool
	// IfStill refuses a change of the webhook as it is when the change begins; nil: it is not asked.
	IfStill func(db.Webhook) error
	// Headers are those of its own that change, by name; nil removes one. An empty map changes nothing.
	Headers map[string]*string

	present    []string // the webhook's event types, where Events says nothing
	key        keyChange
	keyOverlap time.Duration // for how long the key before signs too
	now        time.Time     // by Postgres's clock, as workers have it; of a new key, and with IfNoOverlap
}

// keyChange is what becomes of a webhook's key pair.
type keyChange int

const (
	keepKey keyChange = iota
	newKey
	removeKey
)

// Check completes the URL's form, takes each event type once, and returns a *webhook.InvalidError that names every field
// that breaks a rule.
func (in *Input) Check(rules webhook.URLRules, isNew bool) error {
	var faults problem.Faults
	if in.URL != nil {
		url, err := rules.Check(*in.URL)
		faults.Check(err)
		in.URL = &url
	} else if isNew {
		faults.Add("url", "is required")
	}
	if in.Events != nil {
		types, err := webhook.CheckSubscription(in.Events)
		faults.Check(err)
		in.Events = make([]string, len(types))
		for i, t := range types {
			in.Events[i] = string(t)
		}
	} else if isNew {
		faults.Add("events", "is required")
	}
	in.checkFilter(&faults)
	if in.Name != nil {
		faults.Check(webhook.CheckName("name", *in.Name, MaxNameLength))
	}
	if in.Secret != nil {
		faults.Check(webhook.ValidateSecret(*in.Secret))
	}
	in.checkOverlap(&faults)
	var err error
	in.Headers, err = webhook.CheckCustomHeaders(in.Headers)
	faults.Check(err)
	return faults.Err()
}

// checkFilter holds a filter against the event types, where these are known and valid.
func (in *Input) checkFilter(faults *problem.Faults) {
	types := in.present
	if in.Events != nil {
		types = in.Events
	}
	if len(types) == 0 {
		return
	}
	var err error
	in.Filter, err = in.Filter.Check(typesOf(types))
	faults.Check(err)
}

func (in *Input) checkOverlap(faults *problem.Faults) {
	if in.SecretOverlap == 0 {
		return
	}
	err := webhook.CheckDuration("secretOverlap", in.SecretOverlap, MinSecretOverlap, MaxSecretOverlap)
	if faults.Check(err); err == nil && in.Secret == nil {
		faults.Add("secretOverlap", "requires a new secret")
	}
}

// begin asks IfStill, and sets now where the input needs it.
func (in *Input) begin(ctx context.Context, tx db.DBTX, w db.Webhook) (err error) {
	if in.IfStill != nil {
		err = in.IfStill(w)
	}
	if err != nil {
		return err
	}
	if in.key == newKey || in.IfNoOverlap {
		in.now, err = db.ReadClock(ctx, tx)
	}
	return err
}

// checkNoOverlap refuses what IfNoOverlap does.
func (in *Input) checkNoOverlap(w db.Webhook) error {
	if !in.IfNoOverlap || w.PreviousSecretUntil == nil || !w.PreviousSecretUntil.After(in.now) {
		return nil
	}
	return webhook.Invalid("secretOverlap", "must be none, as the secret before the present one signs until "+webhook.FormatTime(*w.PreviousSecretUntil)+" and would end now; rotate then")
}

func (in *Input) nothing() bool {
	return in.URL == nil && in.Events == nil && !in.SetFilter && in.IsActive == nil && in.Ordered == nil && !in.SetSecret && !in.SetName && len(in.Headers) == 0 && in.key == keepKey
}

// sealed is what an input says of a webhook's URL and secret, as it is stored; nil where it says nothing.
type sealed struct {
	url    []byte
	origin *string
	secret []byte
}

func (s *Service) seal(webhookID uuid.UUID, in Input) (out sealed, err error) {
	if in.URL != nil {
		if out.url, err = s.Keyset.SealURL(webhookID, *in.URL); err != nil {
			return out, err
		}
		origin := webhook.OriginOf(*in.URL)
		out.origin = &origin
	}
	if in.Secret != nil {
		out.secret, err = s.Keyset.Seal(webhookID, *in.Secret)
	}
	return out, err
}
