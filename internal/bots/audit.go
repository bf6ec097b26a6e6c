package bots

import (
	"bytes"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/audit"
)

// auditFields are what the audit log shows of a bot: of its notify URL, that there is one.
func auditFields(b db.Bot) audit.Fields {
	fields := audit.Fields{"name": b.Name, "isActive": b.IsActive, "hasNotifyUrl": b.NotifyURL != nil}
	if b.SuspendedReason != nil {
		fields["suspendedReason"] = *b.SuspendedReason
	}
	return fields
}

// noteUpdate notes what an update changed, by the bot before and after it.
func noteUpdate(note func(audit.Change) error, before, after db.Bot) error {
	change := audit.Change{Action: audit.BotUpdated, BotID: after.ID}
	switch {
	case before.IsActive && !after.IsActive:
		change.Action = audit.BotSuspended
	case !before.IsActive && after.IsActive:
		change.Action = audit.BotReactivated
	}
	was, is := auditFields(before), auditFields(after)
	if before.NotifyURL != nil && after.NotifyURL != nil && !bytes.Equal(before.NotifyURL, after.NotifyURL) {
		was["notifyUrl"], is["notifyUrl"] = "before", "replaced"
	}
	if before.NotifySecret != nil && after.NotifySecret != nil && !bytes.Equal(before.NotifySecret, after.NotifySecret) {
		was["notifySecret"], is["notifySecret"] = "before", "replaced"
	}
	if change, something := change.Between(was, is); something {
		return note(change)
	}
	return nil
}
