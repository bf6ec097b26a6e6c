//go:build !changed

package linearizable_test

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

const (
	counting  = "internal/history/failure_count.go"
	recording = "internal/history/record.go"
	records   = "db/recording.sql_gen.go"
	updates   = "db/webhooks.sql_gen.go"
	services  = "internal/subscriptions/subscriptions.go"
)

// edit is a change of the product's code: other code instead of a piece that is there once.
type edit struct{ file, before, after string }

// rules are those of the product's own code that can be taken out, to see that the model notices. Where two guard the same, both
// are taken out.
var rules = map[string][]edit{
	"what began before the webhook was enabled does not count": {{counting, "if a.Generation != h.Generation {", "if false {"}},
	"enabling begins a generation":                             {{updates, "THEN generation + 1\n", "THEN generation\n"}},
	"another URL begins a generation":                          {{updates, " OR is_active AND $1::bytea IS NOT NULL THEN generation", " THEN generation"}},
	"enabling resets the count":                                {{updates, "THEN 0 ELSE failure_count END", "THEN failure_count ELSE failure_count END"}},
	"a success resets the count":                               {{counting, "h.FailureCount, h.EarlyFailures = 0, 0", "h.EarlyFailures = 0"}},
	"a success beside failures is not plain":                   {{records, "w.is_active AND w.failure_count = 0", "w.is_active"}},
	"a success enables nothing":                                {{counting, "h.FailureCount, h.EarlyFailures = 0, 0", "h.FailureCount, h.EarlyFailures, h.Active = 0, 0, true"}},
	"five early failures count":                                {{counting, "case h.EarlyFailures < maxEarlyFailures:", "default:"}},
	"known failures count":                                     {{counting, "case a.FailureRun == h.FailureRun:", "case false:"}},
	"the tenth failure disables":                               {{counting, "h.FailureCount >= webhook.MaxFailures && !held", "h.FailureCount > webhook.MaxFailures && !held"}},
	"a recording is made once":                                 {{recording, "if s.known[rec.attempt.DeliveryID] {", "if false {"}},
	"the attempt that disables is named": {{
		recording, "	s.addRow(a)\n	return nil", "	if d, was := s.disabled[a.WebhookID]; was {\n		d.attempt = a\n		s.disabled[a.WebhookID] = d\n	}\n	s.addRow(a)\n	return nil",
	}},
	"failures exclude each other": {
		{recording, "locks.Exclusive, changing = append(locks.Exclusive, id)", "locks.Shared, changing = append(locks.Shared, id)"},
		{records, "ORDER BY w.id\nFOR NO KEY UPDATE", "ORDER BY w.id"},
	},
	"a change by the owner and an attempt exclude each other": {
		{services, "	if err := db.LockWebhook(ctx, tx, change.ID); err != nil {\n			return err\n		}\n", ""},
		{records, "ORDER BY w.id\nFOR NO KEY UPDATE", "ORDER BY w.id"},
	},
	"nothing is planned for a suspended bot":    {{recording, "if plan == nil || rec.after.Suspended ||", "if plan == nil ||"}},
	"nothing is planned for a disabled webhook": {{recording, "rec.after.Suspended || !now.Active && !plan.Trigger.Manual() {", "rec.after.Suspended {"}},
	"failures end the recovery":                 {{recording, `return StopWebhooks(ctx, s.tx, ids)`, "_ = ids\n	return nil"}},
	"the owner's disabling ends the recovery":   {{services, `return history.StopWebhooks(ctx, tx, []uuid.UUID{w.ID})`, "return nil"}},
	"disabling again keeps the reason":          {{updates, "THEN NULL\n        WHEN is_active AND NOT", "THEN NULL\n        WHEN NOT"}},
	"a change keeps what it does not name":      {{updates, ", is_active),\n    failure_count", ", true),\n    failure_count"}},
	"another URL is another version":            {{updates, "ELSE url_version + 1 END", "ELSE url_version END"}},
}

// The tag changed leaves out what starts servers, so that a changed program is linked within seconds.

// TestEachRuleIsNeeded takes rules out of the product's code, one after another, and requires that the model notices. The short
// form only checks that the code is still what it would change.
func TestEachRuleIsNeeded(t *testing.T) {
	for name, edits := range rules {
		t.Run(name, func(t *testing.T) {
			changes := map[string]func(string) string{}
			for _, e := range edits {
				changes[e.file] = testkit.Replace(t, e.before, e.after)
			}
			overlay := testkit.Overlay(t, changes)
			if !soak {
				return
			}
			binary := filepath.Join(t.TempDir(), "changed.test")
			out, err := run(t, "go", "test", "-c", "-ldflags=-w", "-vet=off", "-tags=changed", "-overlay="+overlay, "-o", binary, ".")
			require.NoError(t, err, "%s", out)
			out, err = run(t, binary, "-test.run=^TestCountersAreLinearizable$", "-schedules=10000")
			require.Error(t, err, "nothing is noticed without it:\n%s", out)
			require.Contains(t, out, "not linearizable", "it is noticed otherwise")
			t.Log(firstLines(out))
		})
	}
}

// run runs a command, for ten minutes at most.
func run(t *testing.T, command string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, command, args...).CombinedOutput()
	return string(out), err
}

// firstLines are the beginning of a violation: the seed.
func firstLines(out string) string {
	_, violation, _ := strings.Cut(out, "not linearizable:\n")
	seed, _, _ := strings.Cut(violation, ",")
	return "noticed at " + strings.TrimSpace(seed)
}
