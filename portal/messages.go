package portal

// messages are the results of actions. Pages show them by their keys, so that no link can have a page say what it likes.
var messages = map[string]string{
	"signed-out":    "You are signed out.",
	"session-ended": "The session was ended.",
}
