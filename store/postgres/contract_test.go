package postgres_test

import (
	"fmt"
	"hash/crc32"
	"os"
	"testing"

	"github.com/deed-dev/deed/internal/pgtest"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/postgres"
	"github.com/deed-dev/deed/store/storetest"
)

// server is shared by the tests that do not hurt it.
var server *pgtest.Server

func TestMain(m *testing.M) {
	s, stop, err := pgtest.Run()
	if err != nil {
		fmt.Fprintf(os.Stderr, "THE POSTGRESQL TESTS CANNOT RUN HERE: %v\nThey need Debian's package postgresql (apt-get install postgresql).\n", err)
		os.Exit(1)
	}
	server = s
	code := m.Run()
	stop()
	os.Exit(code)
}

func open(t testing.TB, dsn string) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), dsn, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, server.DSN(server.Schema())) })
	storetest.RunDurable(t, func(t *testing.T, dir string) store.Store {
		return open(t, server.DSN(fmt.Sprintf("d%x", crc32.ChecksumIEEE([]byte(dir)))))
	})
}
