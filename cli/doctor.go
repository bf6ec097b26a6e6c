package cli

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/mathub/webhooks/internal/egress"
)

// doctorPatience bounds each thing that the doctor waits for.
const doctorPatience = 5 * time.Second

// Program is what the doctor needs to know about the program.
type Program struct {
	// Variables are the environment variables that the program's flags read.
	Variables []string
	// CheckSettings says what "serve" would say of the settings in the environment before it begins anything.
	CheckSettings func() error
	// TemporalOptions are how the program reaches Temporal.
	TemporalOptions func() (client.Options, error)
	// EgressOptions are how the program sends deliveries, once CheckSettings was called. Nil: as a new Client of egress does.
	EgressOptions func() (egress.Options, error)
}

// Doctor checks an installation with the settings of one of its processes and says how to fix what is wrong. It changes
// nothing and connects only to Postgres, Temporal, the hosts of EgressCheck and the URL of Probe.
type Doctor struct {
	// No flag is required: a missing one is a finding.
	DatabaseURL     string   `name:"database-url" env:"MATHUB_DATABASE_URL" help:"Postgres, such as postgres://user:password@host/mathub."`
	Keyset          string   `env:"MATHUB_KEYSET" help:"The keys that encrypt webhook URLs and secrets."`
	CodecKeyset     string   `env:"MATHUB_CODEC_KEYSET" help:"The keys that encrypt what Temporal keeps of events."`
	ServiceToken    string   `env:"MATHUB_SERVICE_TOKEN" help:"The service API's bearer token."`
	EgressAllow     []string `env:"MATHUB_EGRESS_ALLOW" help:"Private networks (CIDRs) that webhooks may point to."`
	EgressAllowHTTP string   `name:"egress-allow-http" env:"MATHUB_EGRESS_ALLOW_HTTP" help:"Whether http:// webhook URLs are allowed."`
	EgressCheck     []string `env:"MATHUB_EGRESS_CHECK" default:"${checkhosts}" help:"Hosts that test outbound access, by DNS and TCP port 443."`
	Probe           *url.URL `help:"A URL of yours that receives a POST of {}, sent as deliveries are."`
	JSON            bool     `help:"Print JSON: an array of {check, status, detail, fix}."`

	now func() time.Time // time.Now; a test's own
}

// How a check can end.
const (
	statusOK      = "ok"
	statusNote    = "note"    // nothing is wrong, or it cannot be checked
	statusWarning = "warning" // it works, with a risk
	statusFailed  = "failed"  // it does not work, or only in part
)

// finding is what a check found.
type finding struct {
	Check  string `json:"check"`
	Status string `json:"status"`
	Detail string `json:"detail"`
	// Fix says what to do about a warning or failure.
	Fix string `json:"fix,omitempty"`
}

func ok(check, detail string, args ...any) finding {
	return finding{Check: check, Status: statusOK, Detail: fmt.Sprintf(detail, args...)}
}

func note(check, detail string, args ...any) finding {
	return finding{Check: check, Status: statusNote, Detail: fmt.Sprintf(detail, args...)}
}

func warning(check, fix, detail string, args ...any) finding {
	return finding{Check: check, Status: statusWarning, Detail: fmt.Sprintf(detail, args...), Fix: fix}
}

func failed(check, fix, detail string, args ...any) finding {
	return finding{Check: check, Status: statusFailed, Detail: fmt.Sprintf(detail, args...), Fix: fix}
}

// line is the finding for people.
func (f finding) line() string {
	status := f.Status
	if status == statusFailed {
		status = "FAILED"
	}
	line := fmt.Sprintf("%-8s %s: %s", status, f.Check, strings.Join(strings.Fields(f.Detail), " "))
	if f.Fix != "" {
		line += " -> " + f.Fix
	}
	return line
}

// Run prints a line a check. It returns an error when one failed; warnings are none.
func (d *Doctor) Run(ctx context.Context, program Program) error {
	findings := d.examine(ctx, program, os.Environ())
	lines := make([]string, len(findings))
	bad := 0
	for i, f := range findings {
		lines[i] = f.line()
		if f.Status == statusFailed {
			bad++
		}
	}
	if err := printed(d.JSON, findings, strings.Join(lines, "\n")); err != nil {
		return err
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d checks failed", bad, len(findings))
	}
	return nil
}

func (d *Doctor) examine(ctx context.Context, program Program, environ []string) []finding {
	if d.now == nil {
		d.now = time.Now
	}
	findings := d.examineSettings(program, environ)
	findings = append(findings, d.examinePostgres(ctx)...)
	findings = append(findings, d.examineTemporal(ctx, program)...)
	return append(findings, d.examineEgress(ctx, program, environ)...)
}

const (
	// noticeableSkew is more than clocks that are kept by NTP differ.
	noticeableSkew = 2 * time.Second
	// intolerableSkew is near the five minutes after which receivers refuse a signature's time stamp (Standard Webhooks).
	intolerableSkew = 4 * time.Minute
)

// judgeClock compares this machine's clock with another's, which it has read between begin and end.
func judgeClock(whose string, theirs, begin, end time.Time) finding {
	check := "clock of " + whose
	apart := theirs.Sub(begin.Add(end.Sub(begin) / 2))
	uncertain := end.Sub(begin) / 2
	switch off := apart.Abs() - uncertain; {
	case off > intolerableSkew:
		return failed(check, "synchronize both clocks with NTP; receivers refuse signatures that are five minutes off", "differs from this machine's by %s", apart.Round(time.Second))
	case off > noticeableSkew:
		return warning(check, "synchronize both clocks with NTP", "differs from this machine's by %s", apart.Round(time.Second))
	}
	return ok(check, "within %s of this machine's", max(apart.Abs(), uncertain, time.Millisecond).Round(time.Millisecond))
}
