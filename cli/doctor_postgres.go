package cli

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mathub/webhooks/db"
)

const (
	// oldestPostgres is the oldest major version that the tests run with and that Postgres' own project still mends.
	oldestPostgres = 15
	// sampledSecrets is how many webhooks' secrets are tried with the keyset.
	sampledSecrets = 1000

	writableMend = "name the server that can be written to in MATHUB_DATABASE_URL, or all: postgres://user:password@a,b/mathub"
	grantsMend   = "let the tables' owner run db/roles.sql, and use its role mathub_app"
)

func (d *Doctor) examinePostgres(ctx context.Context) []finding {
	const mend = "start Postgres, or correct MATHUB_DATABASE_URL"
	if d.DatabaseURL == "" {
		return []finding{failed("Postgres", "set MATHUB_DATABASE_URL", "MATHUB_DATABASE_URL is not set")}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*doctorPatience)
	defer cancel()
	connecting, cancelConnecting := context.WithTimeout(ctx, doctorPatience)
	defer cancelConnecting()
	pool, err := db.Open(connecting, d.DatabaseURL)
	if errors.Is(err, db.ErrReadOnly) {
		return []finding{failed("Postgres", writableMend, "cannot be used: %s", err)}
	}
	if err != nil {
		return []finding{failed("Postgres", mend, "cannot be used: %s", err)}
	}
	defer pool.Close()

	var findings []finding
	var version int
	var text string
	if err := pool.QueryRow(ctx, "SELECT current_setting('server_version_num')::int, current_setting('server_version')").Scan(&version, &text); err != nil {
		return append(findings, failed("Postgres", mend, "does not answer: %s", err))
	}
	findings = append(findings, judgePostgres(version, text))
	findings = append(findings, d.examineWrites(ctx, pool)...)

	privileges, err := db.ReadPrivileges(ctx, pool)
	if err != nil {
		return append(findings, failed("Postgres privileges", mend, "%s", err))
	}
	if privileges.NoSchema {
		return append(findings, failed("Postgres privileges", grantsMend, "the role %s may not use the schema", privileges.Role))
	}
	findings = append(findings, judgeSchema(db.CheckSchema(ctx, pool)))
	findings = append(findings, judgePrivileges(privileges)...)

	begin := d.now()
	theirs, err := db.Clock(ctx, pool)
	end := d.now()
	if err != nil {
		findings = append(findings, failed("clock of Postgres", mend, "%s", err))
	} else {
		findings = append(findings, judgeClock("Postgres", theirs, begin, end))
	}
	if keyset, err := db.ParseKeyset(d.Keyset); err == nil && len(privileges.Tables) > 0 {
		unopened, looked, err := db.Unopened(ctx, pool, keyset, sampledSecrets)
		switch mend := "use the keyset that they were sealed with, from where you keep passwords"; {
		case err != nil:
			findings = append(findings, failed("URLs and secrets", grantsMend, "cannot be read: %s", err))
		case unopened > 0:
			findings = append(findings, failed("URLs and secrets", mend, "%d of %d looked at do not open with MATHUB_KEYSET", unopened, looked))
		default:
			findings = append(findings, ok("URLs and secrets", "all %d looked at open with the keyset", looked))
		}
	}
	return findings
}

// examineWrites looks at what a failover changes, and at what stands before Postgres.
func (d *Doctor) examineWrites(ctx context.Context, pool *pgxpool.Pool) (findings []finding) {
	writing, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	if err := db.CheckWrites(writing, pool); err != nil {
		findings = append(findings, failed("Postgres writes", writableMend+"; see that its disk has space and its synchronous standbys answer", "a write does not end well: %s", err))
	} else {
		findings = append(findings, ok("Postgres writes", "a write was committed"))
	}
	switch pooled, err := db.Pooled(ctx, pool); {
	case err != nil:
		findings = append(findings, failed("connection pooler", writableMend, "cannot be looked for: %s", err))
	case pooled:
		findings = append(findings, note("connection pooler", "there is one, so that no statement stays prepared: each is planned anew"))
	default:
		findings = append(findings, ok("connection pooler", "none"))
	}
	return findings
}

func judgePostgres(version int, text string) finding {
	if version/10000 < oldestPostgres {
		return failed("Postgres", "upgrade it to 15 or later", "version %s is older than what is supported", text)
	}
	return ok("Postgres", "version %s", text)
}

func judgeSchema(err error) finding {
	switch {
	case err == nil:
		return ok("migrations", "the schema is up to date")
	case db.IsForbidden(err):
		return failed("migrations", grantsMend, "what is applied cannot be read: %s", err)
	}
	return failed("migrations", "run `mathub-webhooks migrate`, as the role that owns the tables", "%s", err)
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
		findings = append(findings, failed("Postgres privileges", grantsMend, "the role %s lacks %s", p.Role, strings.Join(lacking, "; ")))
	default:
		findings = append(findings, ok("Postgres privileges", "the role %s reads and writes all %d tables", p.Role, len(p.Tables)))
	}
	if len(droppable) > 0 {
		findings = append(findings, warning("Postgres least privilege", "serve as the role mathub_app of db/roles.sql", "the role %s could drop %s", p.Role, strings.Join(droppable, ", ")))
	} else {
		findings = append(findings, ok("Postgres least privilege", "the role %s can change and drop no table", p.Role))
	}
	return findings
}
