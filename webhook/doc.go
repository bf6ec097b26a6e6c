// Package webhook is the domain of Mathub Webhooks: the event catalog, the envelope that emitters send and
// receivers get, signatures and headers, the rules for endpoint URLs and secrets, and the retry schedule.
//
// It is a leaf: it imports nothing else of this module, does no I/O and keeps no state. API, workflows, activities and
// emitters share its rules.
package webhook
