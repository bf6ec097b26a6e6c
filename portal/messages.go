package portal

// messages are the results of actions. Pages show them by their keys, so that no link can have a page say what it likes.
var messages = map[string]string{
	"signed-out":    "You are signed out.",
	"session-ended": "The session was ended.",

	"webhook-changed":    "The changes are saved. The next attempt uses them.",
	"webhook-deleted":    "The webhook was deleted.",
	"secret-removed":     "The secret was removed. Deliveries are unsigned.",
	"key-made":           "Deliveries have a signature of the new key pair. One before it signs too for 24 hours.",
	"key-removed":        "The key pair was removed. Deliveries have no signature of it any more.",
	"enabled":            "The webhook is enabled.",
	"paused":             "The webhook is paused. It gets nothing until you enable it.",
	"retried":            "What waits is attempted now, one at a time while the webhook fails.",
	"test-delivered":     "The test arrived.",
	"test-failed":        "The test was sent, and failed.",
	"verified":           "The endpoint is verified.",
	"not-verified":       "The endpoint did not answer with the nonce.",
	"redelivered":        "Sent again, and delivered.",
	"redelivery-failed":  "Sent again, and it failed. See below.",
	"attempt-due":        "The next attempt is made now. Look again in a moment.",
	"nothing-waits":      "Nothing waits any more: the next attempt was made, or removed.",
	"recovery-started":   "The recovery has started.",
	"recovery-cancelled": "The recovery was cancelled. The delivery in flight completes.",
	"notify-changed":     "The notification URL is saved.",
	"key-revoked":        "The key was revoked, and the sessions that it made have ended.",
}
