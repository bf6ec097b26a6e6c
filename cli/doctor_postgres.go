package cli

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

const (
	// oldestPostgres is the oldest major version that the tests run with and that the Postgres project still maintains.
	oldestPostgres = 15
	// sampledSecrets is how many webhooks' secrets are tried with the keyset.
	sampledSecrets = 1000
	// mostUnopenedNamed is how much of what does not open is named.
	mostUnopenedNamed = 3

	writableFix = "set MATHUB_DATABASE_URL to the primary server, or to all servers: postgres://user:password@a,b/mathub"
	grantsFix   = "run db/roles.sql as the owner of the tables, and connect as its role mathub_app"
)

func (d *Doctor) examinePostgres(ctx context.Context) []finding {
	const fix = "start Postgres, or correct MATHUB_DATABASE_URL"
	if d.DatabaseURL == "" {
		return []finding{failed("Postgres", "set MATHUB_DATABASE_URL", "MATHUB_DATABASE_URL is not set")}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*doctorPatience)
	defer cancel()
	connecting, cancelConnecting := context.WithTimeout(ctx, doctorPatience)
	defer cancelConnecting()
	pool, err := db.Open(connecting, d.DatabaseURL)
	if errors.Is(err, db.ErrReadOnly) {
		return []finding{failed("Postgres", writableFix, "cannot connect: %s", err)}
	}
	if err != nil {
		return []finding{failed("Postgres", fix, "cannot connect: %s", err)}
	}
	defer pool.Close()

	var findings []finding
	var version int
	var text string
	if err := pool.QueryRow(ctx, "SELECT current_setting('server_version_num')::int, current_setting('server_version')").Scan(&version, &text); err != nil {
		return append(findings, failed("Postgres", fix, "does not answer: %s", err))
	}
	findings = append(findings, judgePostgres(version, text))
	findings = append(findings, d.examineWrites(ctx, pool)...)

	privileges, err := db.ReadPrivileges(ctx, pool)
	if err != nil {
		return append(findings, failed("Postgres privileges", fix, "%s", err))
	}
	if privileges.NoSchema {
		return append(findings, failed("Postgres privileges", grantsFix, "the role %s has no USAGE privilege on the schema", privileges.Role))
	}
	findings = append(findings, judgeSchema(db.CheckSchema(ctx, pool)))
	findings = append(findings, judgePrivileges(privileges)...)

	if list, more, err := (&history.Pauses{Pool: pool}).List(ctx, "", mostPausesNamed); err == nil {
		findings = append(findings, judgePauses(list, more != "")...)
	}

	begin := d.now()
	theirs, err := db.ReadClock(ctx, pool)
	end := d.now()
	if err != nil {
		findings = append(findings, failed("clock of Postgres", fix, "%s", err))
	} else {
		findings = append(findings, judgeClock("Postgres", theirs, begin, end))
	}
	if keyset, err := db.ParseKeyset(d.Keyset); err == nil && len(privileges.Tables) > 0 {
		findings = append(findings, examineSealed(ctx, pool, keyset))
	}
	return findings
}

// examineSealed tries the keyset on what is stored.
func examineSealed(ctx context.Context, pool *pgxpool.Pool, keyset *db.Keyset) finding {
	unopened, looked, err := db.Unopened(ctx, pool, keyset, sampledSecrets)
	switch fix := "set MATHUB_KEYSET to the keyset that encrypted them, from your password store"; {
	case err != nil:
		return failed("URLs and secrets", grantsFix, "cannot be read: %s", err)
	case len(unopened) > 0:
		some := strings.Join(unopened[:min(mostUnopenedNamed, len(unopened))], ", ")
		return failed("URLs and secrets", fix, "%d of what %d webhooks and bots have sealed cannot be decrypted with MATHUB_KEYSET, such as %s", len(unopened), looked, some)
	default:
		return ok("URLs and secrets", "those of %d webhooks and bots checked can be decrypted", looked)
	}
}

// examineWrites looks at what a failover changes, and at what stands before Postgres.
func (d *Doctor) examineWrites(ctx context.Context, pool *pgxpool.Pool) (findings []finding) {
	writing, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	if err := db.CheckWrites(writing, pool); err != nil {
		findings = append(findings, failed("Postgres writes", writableFix+"; check its disk space and its synchronous standbys", "a write failed: %s", err))
	} else {
		findings = append(findings, ok("Postgres writes", "a write was committed"))
	}
	switch pooled, err := db.Pooled(ctx, pool); {
	case err != nil:
		findings = append(findings, failed("connection pooler", writableFix, "cannot be checked: %s", err))
	case pooled:
		findings = append(findings, note("connection pooler", "found: prepared statements do not last, so each query is planned again"))
	default:
		findings = append(findings, ok("connection pooler", "none"))
	}
	return findings
}

// mostPausesNamed is how many pauses are named.
const mostPausesNamed = 10

// judgePauses says what operators have paused: who looks for what is wrong may not know.
func judgePauses(list []history.Pause, more bool) (findings []finding) {
	for _, p := range list {
		findings = append(findings, note("pauses", "%s are paused by %s since %s: %s", p.Of(), p.By, webhook.FormatTime(p.Since), p.Reason))
	}
	if more {
		findings = append(findings, note("pauses", "there are others; see `mathub-webhooks ops pauses list`"))
	}
	return findings
}

func judgePostgres(version int, text string) finding {
	if version/10000 < oldestPostgres {
		return failed("Postgres", "upgrade to version 15 or later", "version %s is not supported", text)
	}
	return ok("Postgres", "version %s", text)
}

func judgeSchema(err error) finding {
	switch {
	case err == nil:
		return ok("migrations", "up to date")
	case db.IsForbidden(err):
		return failed("migrations", grantsFix, "the schema's version cannot be read: %s", err)
	}
	return failed("migrations", "run `mathub-webhooks migrate` as the owner of the tables", "%s", err)
}

func judgePrivileges(p db.Privileges) []finding {
	var lacking, droppable []string
	for _, table := range p.Tables {
		if len(table.Missing) > 0 {
			lacking = append(lacking, strings.Join(table.Missing, ", ")+" on "+table.Name)
		}
		if table.Owned {
			droppable = append(droppable, table.Name)
		}
	}
	var findings []finding
	switch {
	case len(p.Tables) == 0: // said by the check of the migrations
		return nil
	case len(lacking) > 0:
		findings = append(findings, failed("Postgres privileges", grantsFix, "the role %s lacks %s", p.Role, strings.Join(lacking, "; ")))
	default:
		findings = append(findings, ok("Postgres privileges", "the role %s can read and write all %d tables", p.Role, len(p.Tables)))
	}
	if len(droppable) > 0 {
		findings = append(findings, warning("Postgres least privilege", "connect as the role mathub_app of db/roles.sql", "the role %s can drop %s", p.Role, strings.Join(droppable, ", ")))
	} else {
		findings = append(findings, ok("Postgres least privilege", "the role %s cannot alter or drop tables", p.Role))
	}
	return findings
}
