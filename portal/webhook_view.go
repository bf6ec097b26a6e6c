package portal

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/subscriptions"
	"github.com/mathub/webhooks/webhook"
)

// badge is a state as the style sheet shows it: its class, and its word.
type badge struct{ Class, Word string }

// webhookView is a webhook as pages show it.
type webhookView struct {
	db.Webhook
	URL   string // empty: no key opens it any more
	State badge
	// Summary is how it has been doing, in the list; Spark draws it.
	Summary *history.Summary
	Spark   spark
	// stateKey is what the filter of states calls it.
	stateKey string
}

// Title is the webhook's name on pages: its own, or where it is.
func (v webhookView) Title() string {
	if v.Name != nil {
		return *v.Name
	}
	return v.Where()
}

// OwnName is its name; "": it has none.
func (v webhookView) OwnName() string {
	if v.Name == nil {
		return ""
	}
	return *v.Name
}

// Version names what the form of the webhook changes.
func (v webhookView) Version() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %t", v.URL, v.OwnName(), v.Events, v.Filter, v.Ordered))
	return hex.EncodeToString(sum[:8])
}

// Where is its host and path, without https.
func (v webhookView) Where() string { return shortURL(v.URL, v.Origin) }

// PublicKeys are those of the signatures that its deliveries have now.
func (v webhookView) PublicKeys() []string { return subscriptions.PublicKeys(v.Webhook) }

// Host is what has to be typed to delete the webhook.
func (v webhookView) Host() string { return webhook.HostOf(v.Origin) }

// Rate is its success rate of 24 hours; "": it had no deliveries.
func (v webhookView) Rate() string { return rate(&v.Summary.Day) }

// P95 is the 95th percentile of the durations of 24 hours, in ms.
func (v webhookView) P95() int { return v.Summary.Day.Percentile(0.95) }

// ByFailures says that failures disabled it.
func (v webhookView) ByFailures() bool {
	return !v.IsActive && v.DisabledReason != nil && *v.DisabledReason == "failures"
}

func shortURL(full, origin string) string {
	if full == "" {
		full = origin
	}
	u, err := url.Parse(full)
	if err != nil {
		return full
	}
	short := strings.TrimPrefix(full, "https://")
	if u.Path == "/" && u.RawQuery == "" {
		short = strings.TrimSuffix(short, "/")
	}
	return short
}

// The states that the list can be filtered by.
const (
	stateActive   = "active"
	stateFailing  = "failing"
	stateQueued   = "queued"
	stateDisabled = "disabled"
	statePaused   = "paused"
)

var states = []choice{
	{"", "Any state"}, {stateActive, "Active"}, {stateFailing, "Failing"}, {stateQueued, "Queued, paused by Mathub or recovering"}, {stateDisabled, "Disabled"}, {statePaused, "Paused by you"},
}

// choice is an option of a select.
type choice struct{ Value, Label string }

func (p *portal) viewOf(w db.Webhook) webhookView { return p.viewWith(w, history.Work{}) }

// viewWith is a webhook with what it has before it.
func (p *portal) viewWith(w db.Webhook, work history.Work) webhookView {
	v := webhookView{Webhook: w}
	v.URL, _ = p.Webhooks.URL(w) // else its origin is shown
	v.stateKey, v.State = stateOf(w, work)
	return v
}

// isQueued says whether deliveries go through the queue. An ordered webhook's always do, which is worth a word while some wait.
func isQueued(w db.Webhook, work history.Work) bool {
	return w.Queued && (!w.Ordered || work.Waiting > 0)
}

func stateOf(w db.Webhook, work history.Work) (key string, b badge) {
	switch {
	case !w.IsActive && w.DisabledReason != nil && *w.DisabledReason == "owner":
		return statePaused, badge{"off", "Paused by you"}
	case !w.IsActive && w.DisabledReason != nil && *w.DisabledReason == "operator":
		return stateDisabled, badge{"bad", "Disabled by Mathub"}
	case !w.IsActive:
		return stateDisabled, badge{"bad", "Disabled by failures"}
	case work.Paused:
		return stateQueued, badge{"wait", fmt.Sprintf("Paused by Mathub, %d wait", work.Waiting)}
	case w.FailureCount > 0:
		return stateFailing, badge{"wait", fmt.Sprintf("Failing, %d of %d", w.FailureCount, webhook.MaxFailures)}
	case work.Recovering:
		return stateQueued, badge{"info", fmt.Sprintf("Recovering, %d %%", 100*work.Done/max(work.Found, 1))}
	case isQueued(w, work) && work.Waiting >= history.MostCounted:
		return stateQueued, badge{"wait", fmt.Sprintf("Queued, over %d wait", history.MostCounted-1)}
	case isQueued(w, work):
		return stateQueued, badge{"wait", fmt.Sprintf("Queued, %d wait", work.Waiting)}
	}
	return stateActive, badge{"ok", "Active"}
}

// eventChoice is an event type in a form.
type eventChoice struct {
	Type, Description, Sample string
	Chosen                    bool
	Targeted                  bool
}

// eventChoices are the event types that a webhook can subscribe to.
func eventChoices(chosen []string) (all []eventChoice) {
	for _, spec := range webhook.Catalog() {
		if spec.Audience == webhook.Direct {
			continue
		}
		all = append(all, eventChoice{
			Type: string(spec.Type), Description: spec.Description, Sample: sampleOf(spec),
			Chosen: slices.Contains(chosen, string(spec.Type)), Targeted: spec.Audience == webhook.Targeted,
		})
	}
	return all
}

// sampleTime is the timestamp of samples, as in the API's reference.
const sampleTime = "2025-03-20T10:30:00.000Z"

// sampleOf is the body of an event of a type, with the catalog's data.
func sampleOf(spec webhook.EventSpec) string {
	body, err := json.MarshalIndent(struct {
		Event     webhook.EventType `json:"event"`
		Timestamp string            `json:"timestamp"`
		Data      json.RawMessage   `json:"data"`
	}{spec.Type, sampleTime, spec.ExampleData()}, "", "  ")
	if err != nil {
		panic(err) // the catalog's examples are JSON
	}
	return string(body)
}
