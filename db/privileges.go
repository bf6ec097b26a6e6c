package db

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Privileges are what the role of a database URL may do.
type Privileges struct {
	Role string
	// NoSchema: the role may not even look a table up, so that Tables is empty.
	NoSchema bool
	// Tables are the product's, by name; none before the first migration.
	Tables []TablePrivileges
}

// TablePrivileges are a role's privileges on a table.
type TablePrivileges struct {
	Name string
	// Missing are those of SELECT, INSERT, UPDATE and DELETE that serving needs and the role lacks.
	Missing []string
	// Owned: the role can change the table and drop it, as its owner, a member of its owner, or a superuser.
	Owned bool
}

// The tables of migrations are read alone: the role that migrates is another.
const readPrivileges = `
SELECT c.relname, pg_has_role(c.relowner, 'USAGE'),
       coalesce(array_agg(p.privilege ORDER BY p.position) FILTER (WHERE NOT has_table_privilege(c.oid, p.privilege)), '{}')
FROM pg_class c
CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) WITH ORDINALITY AS p (privilege, position)
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace = current_schema()::regnamespace
  AND to_regclass('webhooks') IS NOT NULL
  AND (p.privilege = 'SELECT' OR c.relname <> 'goose_db_version')
GROUP BY c.oid, c.relname, c.relowner
ORDER BY c.relname`

// ReadPrivileges reads the privileges of the role that pool connects as.
func ReadPrivileges(ctx context.Context, pool *pgxpool.Pool) (p Privileges, err error) {
	err = pool.QueryRow(ctx, "SELECT current_user, current_schema() IS NULL").Scan(&p.Role, &p.NoSchema)
	if err != nil || p.NoSchema {
		return p, err
	}
	rows, err := pool.Query(ctx, readPrivileges)
	if err != nil {
		return p, fmt.Errorf("privileges: %w", err)
	}
	p.Tables, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (t TablePrivileges, err error) {
		err = row.Scan(&t.Name, &t.Owned, &t.Missing)
		return t, err
	})
	return p, err
}

// IsForbidden says whether err is Postgres's refusal of what the role may not do (SQLSTATE 42501).
func IsForbidden(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "42501"
}
