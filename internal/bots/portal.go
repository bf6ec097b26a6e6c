package bots

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/audit"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/internal/web"
	"github.com/mathub/webhooks/webhook"
)

const (
	// PortalLinkTime is how long a link works: the default, and the most.
	PortalLinkTime = 10 * time.Minute
	// MinPortalLinkTime is the least.
	MinPortalLinkTime = time.Second
	// PortalSessionTime is how long a session lasts.
	PortalSessionTime = 12 * time.Hour
	// PortalIdleTime is how long one lasts that is not used.
	PortalIdleTime = 2 * time.Hour
	// portalTouch is how exact a session's last use is.
	portalTouch = time.Minute
	// maxPortalLinks and maxPortalSessions are how many of a bot are kept: the newest.
	maxPortalLinks    = 100
	maxPortalSessions = 100

	// portalPath is what a link may lead to something below of.
	portalPath = "/portal/"
	maxNext    = 2000
)

// Role says what a session may do.
type Role string

// The roles. A viewer changes nothing.
const (
	Manage Role = "manage"
	View   Role = "view"
)

// PortalLink is a link to be made.
type PortalLink struct {
	Role  Role
	Label string // the person it is for; may be empty
	// Next is the page that it leads to, a path below /portal; empty: the first.
	Next string
	// Lasts is for how long it works; 0: PortalLinkTime.
	Lasts time.Duration
	// KeyID is the key that asks for it, whose end ends it; uuid.Nil: none.
	KeyID uuid.UUID
}

// PortalSession is somebody who is signed in to the portal.
type PortalSession struct {
	ID                    uuid.UUID
	BotID, BotName        string
	Role                  Role
	Label                 string
	KeyID                 uuid.UUID // uuid.Nil: of no key
	KeyLabel              string    // what the key is known by; empty: of no key
	LinkID                uuid.UUID // of the link that opened it; uuid.Nil: a key did
	CreatedAt, LastUsedAt time.Time
}

func sessionOf(s db.PortalSession, botName, keyName, keyPrefix string) PortalSession {
	session := PortalSession{
		ID: s.ID, BotID: s.BotID, BotName: botName, Role: Role(s.Role), Label: s.Label, KeyID: s.KeyID.UUID, LinkID: s.LinkID.UUID,
		CreatedAt: s.CreatedAt, LastUsedAt: s.LastUsedAt,
	}
	if s.KeyID.Valid {
		session.KeyLabel = KeyLabel(keyName, keyPrefix)
	}
	return session
}

// Who is the label of its link, or else what opened the session.
func (s PortalSession) Who() string {
	if s.Label != "" {
		return s.Label
	}
	return s.OpenedBy()
}

// As is the session as who makes a request's changes; by is what is known of the request.
func (s PortalSession) As(by audit.Actor) audit.Actor {
	by.Kind, by.ID, by.Name, by.KeyID, by.LinkID = audit.Portal, s.ID.String(), s.Who(), s.KeyID, s.LinkID
	return by
}

// OpenedBy says in words what opened the session.
func (s PortalSession) OpenedBy() string {
	switch {
	case s.LinkID == uuid.Nil:
		return "key " + s.KeyLabel
	case s.KeyID == uuid.Nil:
		return "a link from Mathub"
	}
	return "a link of key " + s.KeyLabel
}

// EndsAt is when the session ends at the latest.
func (s PortalSession) EndsAt() time.Time { return s.CreatedAt.Add(PortalSessionTime) }

// ErrWrongCode is the answer to a code that opens nothing.
var ErrWrongCode = &problem.Error{Kind: problem.Unauthorized, Detail: "This link does not work: it was used, is older than 10 minutes, or was cut short. Ask for a new one."}

// newCode is 256 random bits, and what is stored of them.
func newCode() (code string, hash []byte) {
	random := make([]byte, sha256.Size)
	_, _ = rand.Read(random) // it does not fail
	code = base64.RawURLEncoding.EncodeToString(random)
	return code, HashKey(code)
}

// IsCode says whether a text may be a code, by its form.
func IsCode(s string) bool {
	code, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(code) == sha256.Size
}

// IsPortalPath says whether a path is a page below /portal, of this service and as it is written.
func IsPortalPath(s string) bool {
	return len(s) <= maxNext && strings.HasPrefix(s, portalPath) && web.IsPathBelow(s, portalPath)
}

// check names what is wrong with a link.
func (l *PortalLink) check() error {
	faults := &problem.Faults{}
	if l.Role != Manage && l.Role != View {
		faults.Add("role", "must be manage or view")
	}
	faults.Check(webhook.CheckOptionalName("label", l.Label, maxNameLength))
	if l.Next != "" && !IsPortalPath(l.Next) {
		faults.Add("next", "must be a path below /portal, such as /portal/deliveries")
	}
	if l.Lasts != 0 {
		faults.Check(webhook.CheckDuration("ttl", l.Lasts, MinPortalLinkTime, PortalLinkTime))
	}
	return faults.Err()
}

// CreatePortalLink makes a link: what opens it once, before a time, is its code of 256 random bits, of which only the
// SHA-256 is kept.
func (s *Service) CreatePortalLink(ctx context.Context, botID string, link PortalLink) (code string, expiresAt time.Time, err error) {
	if err := link.check(); err != nil {
		return "", time.Time{}, problem.Of(err)
	}
	bot, err := s.row(ctx, botID)
	if err != nil {
		return "", time.Time{}, err
	}
	if !bot.IsActive {
		return "", time.Time{}, &problem.Error{Kind: problem.Conflict, Detail: problem.Suspended(bot.SuspendedReason).Detail}
	}
	if link.Lasts == 0 {
		link.Lasts = PortalLinkTime
	}
	code, hash := newCode()
	id := uuid.Must(uuid.NewV7())
	expiresAt = time.Now().Add(link.Lasts)
	err = audit.Tx(ctx, s.Pool, s.Log, func(tx pgx.Tx, note func(audit.Change) error) error {
		err := db.New().CreatePortalLink(ctx, tx, db.CreatePortalLinkParams{
			CodeHash: hash, ID: id, BotID: bot.ID, Role: string(link.Role), Label: link.Label, Next: link.Next, KeyID: db.IDOrNull(link.KeyID), ExpiresAt: expiresAt,
		})
		if err != nil {
			return err
		}
		made := audit.Change{Action: audit.LinkCreated, BotID: bot.ID, Subject: id.String(), After: audit.Fields{"role": link.Role, "label": link.Label, "expiresAt": webhook.FormatTime(expiresAt)}}
		if err := note(made); err != nil {
			return err
		}
		return db.New().TrimPortalLinks(ctx, tx, db.TrimPortalLinksParams{BotID: bot.ID, Most: maxPortalLinks})
	})
	return code, expiresAt, err
}

// PortalLinkURL is a link by its code, which stands in the fragment: in no log, and in no Referer.
func PortalLinkURL(service, code string) string {
	return strings.TrimSuffix(service, "/") + portalPath + "open#" + code
}

// OpenPortalLink uses up a link, but not that of a suspended bot, which answers problem.ErrSuspended. cookie is what the new session
// is known by, and is not shown again; next is the page that the link leads to, if any.
func (s *Service) OpenPortalLink(ctx context.Context, code string) (cookie, next string, err error) {
	if !IsCode(code) {
		return "", "", ErrWrongCode
	}
	err = audit.Tx(ctx, s.Pool, s.Log, func(tx pgx.Tx, note func(audit.Change) error) error {
		link, err := db.New().TakePortalLink(ctx, tx, HashKey(code))
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrWrongCode
		}
		if err != nil {
			return err
		}
		if !link.IsActive {
			return problem.ErrSuspended
		}
		next = link.Next
		cookie, err = openPortal(ctx, tx, note, db.CreatePortalSessionParams{BotID: link.BotID, Role: link.Role, Label: link.Label, KeyID: link.KeyID, LinkID: db.IDOrNull(link.ID)})
		return err
	})
	return cookie, next, err
}

// OpenPortalWithKey signs in who has a key of the bot.
func (s *Service) OpenPortalWithKey(ctx context.Context, botID string, keyID uuid.UUID) (cookie string, err error) {
	err = audit.Tx(ctx, s.Pool, s.Log, func(tx pgx.Tx, note func(audit.Change) error) error {
		cookie, err = openPortal(ctx, tx, note, db.CreatePortalSessionParams{BotID: botID, Role: string(Manage), KeyID: db.IDOrNull(keyID)})
		return err
	})
	return cookie, err
}

// openPortal makes a session, which is the actor of its own beginning.
func openPortal(ctx context.Context, tx pgx.Tx, note func(audit.Change) error, session db.CreatePortalSessionParams) (cookie string, err error) {
	session.ID = uuid.Must(uuid.NewV7())
	cookie, session.TokenHash = newCode()
	q := db.New()
	if err := q.CreatePortalSession(ctx, tx, session); err != nil {
		return "", err
	}
	row, err := q.PortalSession(ctx, tx, db.PortalSessionParams{TokenHash: session.TokenHash})
	if err != nil {
		return "", err
	}
	by := sessionOf(row.PortalSession, row.Name, row.KeyName, row.KeyPrefix).As(audit.By(ctx))
	started := audit.Change{
		Actor: &by, Action: audit.SessionStarted, BotID: session.BotID, Subject: session.ID.String(),
		After: sessionFields(session.Role, session.Label, session.KeyID, session.LinkID),
	}
	if err := note(started); err != nil {
		return "", err
	}
	return cookie, q.TrimPortalSessions(ctx, tx, db.TrimPortalSessionsParams{BotID: session.BotID, Most: maxPortalSessions})
}

// sessionFields are what the audit log shows of a session.
func sessionFields(role, label string, keyID, linkID uuid.NullUUID) audit.Fields {
	fields := audit.Fields{"role": role, "label": label}
	for name, id := range map[string]uuid.NullUUID{"keyId": keyID, "linkId": linkID} {
		if id.Valid {
			fields[name] = id.UUID
		}
	}
	return fields
}

// ErrNoSession is the answer where nobody is signed in, or not any more.
var ErrNoSession = &problem.Error{Kind: problem.Unauthorized, Detail: "You are not signed in."}

// PortalSession finds the session of a cookie. used: its reader did something, so that it is not idle. A suspended bot's
// is found too, with problem.Suspended.
func (s *Service) PortalSession(ctx context.Context, cookie string, used bool) (PortalSession, error) {
	if !IsCode(cookie) {
		return PortalSession{}, ErrNoSession
	}
	now := time.Now()
	q := db.New()
	row, err := q.PortalSession(ctx, s.Pool, db.PortalSessionParams{TokenHash: HashKey(cookie), CreatedAfter: now.Add(-PortalSessionTime), UsedAfter: now.Add(-PortalIdleTime)})
	if errors.Is(err, pgx.ErrNoRows) {
		return PortalSession{}, ErrNoSession
	}
	if err != nil {
		return PortalSession{}, err
	}
	session := sessionOf(row.PortalSession, row.Name, row.KeyName, row.KeyPrefix)
	if !row.IsActive {
		return session, problem.Suspended(row.SuspendedReason)
	}
	if used && now.Sub(session.LastUsedAt) > portalTouch {
		if err := q.TouchPortalSession(ctx, s.Pool, session.ID); err != nil {
			return PortalSession{}, err
		}
	}
	return session, nil
}

// TakePortalForm says whether a form is another than the one before, of those for which a session asks it.
func (s *Service) TakePortalForm(ctx context.Context, session, form uuid.UUID) (bool, error) {
	n, err := db.New().TakePortalForm(ctx, s.Pool, db.TakePortalFormParams{ID: session, Form: form})
	return n > 0, err
}

// PortalSessions are a bot's, newest first.
func (s *Service) PortalSessions(ctx context.Context, botID string) ([]PortalSession, error) {
	bot, err := s.row(ctx, botID)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	rows, err := db.New().ListPortalSessions(ctx, s.Pool, db.ListPortalSessionsParams{BotID: bot.ID, CreatedAfter: now.Add(-PortalSessionTime), UsedAfter: now.Add(-PortalIdleTime)})
	sessions := make([]PortalSession, len(rows))
	for i, row := range rows {
		sessions[i] = sessionOf(row.PortalSession, row.Name, row.KeyName, row.KeyPrefix)
	}
	return sessions, err
}

// EndPortal signs out all of a bot's sessions, and ends its links.
func (s *Service) EndPortal(ctx context.Context, botID string) error {
	bot, err := s.row(ctx, botID)
	if err != nil {
		return err
	}
	return audit.Tx(ctx, s.Pool, s.Log, func(tx pgx.Tx, note func(audit.Change) error) error {
		if err := db.New().EndPortal(ctx, tx, bot.ID); err != nil {
			return err
		}
		return note(audit.Change{Action: audit.SessionEnded, BotID: bot.ID, After: audit.Fields{"sessions": "all"}})
	})
}

// RemoveExpiredPortal removes the links and sessions of all bots that are over.
func (s *Service) RemoveExpiredPortal(ctx context.Context) error {
	now := time.Now()
	return db.New().RemoveExpiredPortal(ctx, s.Pool, db.RemoveExpiredPortalParams{CreatedBefore: now.Add(-PortalSessionTime), UsedBefore: now.Add(-PortalIdleTime)})
}

// EndPortalSession signs one of the bot's sessions out.
func (s *Service) EndPortalSession(ctx context.Context, botID string, id uuid.UUID) error {
	botID = webhook.CanonicalID(botID)
	return s.remove(ctx, audit.Change{Action: audit.SessionEnded, BotID: botID, Subject: id.String()}, func(tx pgx.Tx) (audit.Fields, error) {
		was, err := db.New().EndPortalSession(ctx, tx, db.EndPortalSessionParams{ID: id, BotID: botID})
		return sessionFields(was.Role, was.Label, was.KeyID, was.LinkID), err
	})
}
