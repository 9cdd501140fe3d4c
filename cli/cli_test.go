package cli_test

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/deed-dev/deed/cli"
	"github.com/deed-dev/deed/examples/conference"
	"github.com/deed-dev/deed/examples/farm"
	"github.com/deed-dev/deed/examples/league"
	"github.com/deed-dev/deed/examples/orders"
)

// demoEnv makes this test binary the real program, for tests that kill it.
const demoEnv = "DEED_TEST_PROGRAM"

func program() { cli.Main(orders.Domain, conference.Domain, farm.Domain, league.Domain) }

func TestMain(m *testing.M) {
	if os.Getenv(demoEnv) != "" {
		program()
	}
	testscript.Main(m, map[string]func(){"deed": program})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata"})
}
