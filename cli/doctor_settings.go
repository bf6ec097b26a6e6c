package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/openfiles"
)

// minTokenBytes is 128 bits in hex: less can be guessed, or was made up by a person.
const minTokenBytes = 32

// temporalVariables are those of Temporal's environment configuration, which its package does not list.
var temporalVariables = []string{
	"TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE", "TEMPORAL_API_KEY", "TEMPORAL_CLIENT_AUTHORITY", "TEMPORAL_CONFIG_FILE", "TEMPORAL_PROFILE",
	"TEMPORAL_CODEC_ENDPOINT", "TEMPORAL_CODEC_AUTH", "TEMPORAL_TLS", "TEMPORAL_TLS_CLIENT_CERT_PATH", "TEMPORAL_TLS_CLIENT_CERT_DATA",
	"TEMPORAL_TLS_CLIENT_KEY_PATH", "TEMPORAL_TLS_CLIENT_KEY_DATA", "TEMPORAL_TLS_SERVER_CA_CERT_PATH", "TEMPORAL_TLS_SERVER_CA_CERT_DATA",
	"TEMPORAL_TLS_SERVER_NAME", "TEMPORAL_TLS_DISABLE_HOST_VERIFICATION",
}

// runVariables are those that only `make run` takes.
var runVariables = []string{"MATHUB_DATA_DIR", "MATHUB_POSTGRES_PORT", "MATHUB_TEMPORAL_PORT", "MATHUB_UI_HOSTS", "MATHUB_UI_PORT"}

func (d *Doctor) examineSettings(program Program, environ []string) []finding {
	findings := make([]finding, 0, 5)
	if err := program.CheckSettings(); err != nil {
		findings = append(findings, failed("settings", "correct it; see `mathub-webhooks serve --help`", "%s", err))
	} else {
		findings = append(findings, ok("settings", "valid"))
	}
	findings = append(findings, nameVariables(program.Variables, environ))

	if d.Keyset == "" {
		findings = append(findings, failed("keyset", "set MATHUB_KEYSET to the keyset in use, or for a new installation to the output of `mathub-webhooks keyset new`", "MATHUB_KEYSET is not set"))
	} else if _, err := db.ParseKeyset(d.Keyset); err != nil {
		findings = append(findings, failed("keyset", "set MATHUB_KEYSET to the complete keyset in use, in one line", "%s", err))
	} else {
		findings = append(findings, ok("keyset", "valid"))
	}
	if d.CodecKeyset != "" {
		findings = append(findings, d.judgeCodec())
	}
	switch token := d.ServiceToken; {
	case token == "":
		findings = append(findings, note("service token", "not set: the service API is off; a worker needs none"))
	case len(token) < minTokenBytes || len(distinct(token)) < 8:
		findings = append(findings, warning("service token", "set MATHUB_SERVICE_TOKEN to the output of `openssl rand -hex 32`", "weak: %d bytes, %d of them distinct", len(token), len(distinct(token))))
	default:
		findings = append(findings, ok("service token", "long enough"))
	}
	return append(findings, judgeOpenFiles(openfiles.Limit()))
}

func (d *Doctor) judgeCodec() finding {
	const check = "codec keyset"
	if _, err := db.ParseKeyset(d.CodecKeyset); err != nil {
		return failed(check, "set MATHUB_CODEC_KEYSET to the complete keyset in use, in one line", "%s", err)
	}
	if d.CodecKeyset == d.Keyset {
		return warning(check, "make another with `mathub-webhooks keyset new`", "the same as MATHUB_KEYSET: who may open histories can open secrets")
	}
	return ok(check, "valid")
}

func judgeOpenFiles(limit int) finding {
	const check = "open files"
	if limit < openfiles.Enough {
		return warning(check, fmt.Sprintf("raise the limit to %d (ulimit -n, LimitNOFILE=, ulimits:)", openfiles.Enough),
			"limit %d, which allows %d connections a listener and %d deliveries in flight", limit, openfiles.Connections(), openfiles.InFlight())
	}
	return ok(check, "limit %d", limit)
}

func distinct(s string) []byte {
	sorted := []byte(s)
	slices.Sort(sorted)
	return slices.Compact(sorted)
}

// nameVariables finds variables that look like settings but are not, which catches misspellings.
func nameVariables(known, environ []string) finding {
	var unknown []string
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		isOurs := strings.HasPrefix(name, "MATHUB_") && !slices.Contains(known, name) && !slices.Contains(runVariables, name)
		isTemporals := strings.HasPrefix(name, "TEMPORAL_") && !slices.Contains(temporalVariables, name) && !strings.HasPrefix(name, "TEMPORAL_GRPC_META_")
		if isOurs || isTemporals {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return warning("variables", "correct the names, or unset them", "unknown: %s", strings.Join(unknown, ", "))
	}
	return ok("variables", "all known")
}
