package subscriptions

import (
	"bytes"
	"slices"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/audit"
)

// auditFields are what the audit log shows of a webhook: of its URL the origin, of its secret that there is one, of its own headers
// the names.
func auditFields(w db.Webhook) audit.Fields {
	fields := audit.Fields{"name": nil, "origin": w.Origin, "events": w.Events, "isActive": w.IsActive, "hasSecret": w.Secret != nil}
	if w.Name != nil { // a pointer would be logged as one
		fields["name"] = *w.Name
	}
	if w.DisabledNote != nil {
		fields["disabledNote"] = *w.DisabledNote
	}
	if w.Ordered {
		fields["ordered"] = true
	}
	if len(w.HeaderNames) > 0 {
		fields["headers"] = w.HeaderNames
	}
	if filter := FilterOf(w); len(filter) > 0 {
		fields["filter"] = filter
	}
	if w.PublicKey != nil {
		fields["publicKey"] = *w.PublicKey
	}
	return fields
}

// noteUpdate notes what an update changed, by the webhook before and after it. headers are those of its own that changed.
func noteUpdate(note func(audit.Change) error, before, after db.Webhook, asked db.UpdateWebhookParams, headers map[string]*string) error {
	change := audit.Change{Action: audit.WebhookUpdated, BotID: after.BotID, Subject: after.ID.String()}
	switch {
	case before.IsActive && !after.IsActive:
		change.Action = audit.WebhookDisabled
	case !before.IsActive && after.IsActive:
		change.Action = audit.WebhookEnabled
	}
	was, is := auditFields(before), auditFields(after)
	// What neither shows: another path or query, another secret, and that failures are forgotten.
	if before.URLVersion != after.URLVersion {
		was["url"], is["url"] = "before", "replaced"
	}
	if asked.SetSecret && before.Secret != nil && after.Secret != nil && !bytes.Equal(before.Secret, after.Secret) {
		was["secret"], is["secret"] = "before", "replaced"
	}
	if slices.ContainsFunc(before.HeaderNames, func(name string) bool { return headers[name] != nil }) {
		was["headerValues"], is["headerValues"] = "before", "replaced"
	}
	if before.FailureCount != after.FailureCount {
		was["failureCount"], is["failureCount"] = before.FailureCount, after.FailureCount
	}
	if change, something := change.Between(was, is); something {
		return note(change)
	}
	return nil
}
