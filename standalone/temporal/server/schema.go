package server

import (
	"database/sql"
	_ "embed" // the SQL files
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/log"
	_ "go.temporal.io/server/common/persistence/sql/sqlplugin/postgresql" // registers the plugin
	postgresschema "go.temporal.io/server/schema/postgresql/v12"
	"go.temporal.io/server/tools/common/schema"
	sqltool "go.temporal.io/server/tools/sql"
)

// visibilitySchema is the schema of the lists of workflows.
const visibilitySchema = "postgresql/v12/visibility"

// undefinedTable is Postgres's code of the error, from its appendix A.
const undefinedTable = "42P01"

// migrate makes the tables of an empty database, or brings those of an older server up to this one's.
func migrate(database config.SQL, schemaName, version string, logger log.Logger) error {
	conn, err := sqltool.NewConnection(&database, logger)
	if err != nil {
		return fmt.Errorf("database %s: %w", database.DatabaseName, err)
	}
	defer conn.Close()
	current, err := conn.ReadSchemaVersion()
	switch {
	case isMissing(err):
		// Empty, or the set-up was interrupted, before anything could be stored: what there is of it goes.
		err = errors.Join(conn.Exec("DROP SCHEMA public CASCADE"), conn.Exec("CREATE SCHEMA public"))
		if err == nil {
			err = schema.NewSetupSchemaTask(conn, &schema.SetupConfig{
				SchemaName: schemaName, InitialVersion: version,
			}, logger).Run()
		}
	case err == nil && current != version:
		if schemaName == visibilitySchema {
			if err := execute(database, restore, logger); err != nil {
				return err
			}
		}
		err = schema.NewUpdateSchemaTask(conn, &schema.UpdateConfig{
			DBName: database.DatabaseName, SchemaName: schemaName,
		}, logger).Run()
	}
	if err != nil {
		return fmt.Errorf("database %s: schema %s: %w", database.DatabaseName, version, err)
	}
	return nil
}

// isMissing says whether reading the version failed for the sole reason that none was ever written.
func isMissing(err error) bool {
	var known *pgconn.PgError
	return errors.Is(err, sql.ErrNoRows) || errors.As(err, &known) && known.Code == undefinedTable
}

// migrateAll brings both databases up to date. stock leaves the visibility database's indexes as Temporal has them.
func migrateAll(main, visibility config.SQL, stock bool, logger log.Logger) error {
	if err := migrate(main, "postgresql/v12/temporal", postgresschema.Version, logger); err != nil {
		return err
	}
	if err := migrate(visibility, visibilitySchema, postgresschema.VisibilityVersion, logger); err != nil || stock {
		return err
	}
	return execute(visibility, slim, logger)
}

var (
	//go:embed slim.sql
	slim string
	//go:embed restore.sql
	restore string
)

func execute(database config.SQL, statements string, logger log.Logger) error {
	conn, err := sqltool.NewConnection(&database, logger)
	if err != nil {
		return fmt.Errorf("database %s: %w", database.DatabaseName, err)
	}
	defer conn.Close()
	if err := conn.Exec(statements); err != nil {
		return fmt.Errorf("database %s: %w", database.DatabaseName, err)
	}
	return nil
}
