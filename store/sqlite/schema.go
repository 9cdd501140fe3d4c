package sqlite

import (
	"embed"
	"fmt"
	"io/fs"
	"slices"

	lib "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

//go:embed migrations/*.sql
var migrations embed.FS

// applicationID marks a database file as deed's ("deed" in ASCII).
const applicationID = 0x64656564

// migrate brings a database to the schema of this program, one numbered file
// after the other. There is no way back.
func migrate(c *lib.Conn, path string) error {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	slices.Sort(files)
	at, err := pragma(c, "user_version")
	if err != nil {
		return err
	}
	id, err := pragma(c, "application_id")
	if err != nil {
		return err
	}
	if at == 0 {
		if n, err := integer(c, "SELECT count(*) FROM sqlite_schema"); err != nil || n > 0 {
			return fmt.Errorf("sqlite: %s is a database of another program: choose another file (%w)", path, orNone(err))
		}
	} else if id != applicationID {
		return fmt.Errorf("sqlite: %s is a database of another program: choose another file", path)
	}
	if int(at) > len(files) {
		return fmt.Errorf("sqlite: %s has schema %d, this program knows schemas up to %d: use a newer deed", path, at, len(files))
	}
	for n := int(at); n < len(files); n++ {
		sql, err := migrations.ReadFile(files[n])
		if err != nil {
			return err
		}
		if n+1 == withSums {
			if err := beforeSums(c); err != nil {
				return fmt.Errorf("sqlite: %s: migration %s: %w", path, files[n], err)
			}
		}
		script := fmt.Sprintf("%s\nPRAGMA user_version = %d;\nPRAGMA application_id = %d;", sql, n+1, applicationID)
		if err := sqlitex.ExecuteScript(c, script, nil); err != nil { // in a savepoint: all or nothing
			return fmt.Errorf("sqlite: %s: migration %s: %w", path, files[n], err)
		}
	}
	return nil
}

type none struct{}

func (none) Error() string { return "it has tables, but no schema version" }

func orNone(err error) error {
	if err == nil {
		return none{}
	}
	return err
}

func pragma(c *lib.Conn, name string) (int64, error) { return integer(c, "PRAGMA "+name) }

// integer returns the first column of a query's first row; 0 if there is none.
func integer(c *lib.Conn, query string) (n int64, err error) {
	err = sqlitex.ExecuteTransient(c, query, &sqlitex.ExecOptions{ResultFunc: func(st *lib.Stmt) error {
		n = st.ColumnInt64(0)
		return nil
	}})
	return n, err
}
