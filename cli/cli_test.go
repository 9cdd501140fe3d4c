package cli_test

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	if os.Getenv(programEnv) != "" {
		program()
	}
	testscript.Main(m, map[string]func(){"deed": program})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata", Setup: scriptEnv})
}

// scriptEnv hands to the scripts what they need to know of the tests' environment.
func scriptEnv(e *testscript.Env) error {
	e.Setenv("GORACE", os.Getenv("GORACE")) // see the Makefile
	return nil
}
