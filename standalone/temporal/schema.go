package temporal

import (
	"fmt"

	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/log"
	_ "go.temporal.io/server/common/persistence/sql/sqlplugin/postgresql" // registers the plugin
	postgresschema "go.temporal.io/server/schema/postgresql/v12"
	"go.temporal.io/server/tools/common/schema"
	"go.temporal.io/server/tools/sql"
)

// migrate makes the tables of an empty database, or brings those of an older server up to this one's.
func migrate(database config.SQL, schemaName, version string, logger log.Logger) error {
	conn, err := sql.NewConnection(&database, logger)
	if err != nil {
		return fmt.Errorf("database %s: %w", database.DatabaseName, err)
	}
	defer conn.Close()
	current, err := conn.ReadSchemaVersion()
	switch {
	case err != nil:
		// No version: empty, or the set-up was interrupted before anything could be stored. Whatever is there goes.
		err = schema.NewSetupSchemaTask(conn, &schema.SetupConfig{
			SchemaName: schemaName, InitialVersion: version, Overwrite: true,
		}, logger).Run()
	case current != version:
		err = schema.NewUpdateSchemaTask(conn, &schema.UpdateConfig{
			DBName: database.DatabaseName, SchemaName: schemaName,
		}, logger).Run()
	}
	if err != nil {
		return fmt.Errorf("database %s: schema %s: %w", database.DatabaseName, version, err)
	}
	return nil
}

func migrateAll(main, visibility config.SQL, logger log.Logger) error {
	if err := migrate(main, "postgresql/v12/temporal", postgresschema.Version, logger); err != nil {
		return err
	}
	return migrate(visibility, "postgresql/v12/visibility", postgresschema.VisibilityVersion, logger)
}
