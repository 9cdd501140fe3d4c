package deedtest

import (
	"testing"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/contract"
	"github.com/deed-dev/deed/store/mem"
)

// schemasFolder is where formats are recorded.
const schemasFolder = "testdata/schemas"

// CheckSchemas finds changes of a domain that break what is stored or what
// others rely on. It fails if
//
//   - the schema of a stored event, or of a public one, is not what is recorded
//     in testdata/schemas, and a program that knows only the one could not do
//     with the other: a field is gone, has another type or fewer values, or is
//     required and was not,
//   - an event's name is gone and is neither in Legacy nor in Upcasts, or a type
//     of public events is gone,
//   - what has changed as it may is not recorded yet.
//
// Run the tests once with -deed.update to record what is new, or has changed as
// it may. It is what `deed schema check --strict` does for a program.
func CheckSchemas(t *testing.T, domain deed.Domain) {
	t.Helper()
	rt, err := deed.New(mem.New(), deed.Config{Domains: []deed.Domain{domain}})
	if err != nil {
		t.Fatal(err)
	}
	report, err := contract.Of(rt).Compare(schemasFolder)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Broken {
		t.Errorf("%s: %s", f.File, f)
	}
	if *update {
		if err := report.Record(); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, u := range report.Unrecorded {
		t.Errorf("%s: %s\nrecord it; run: go test -run %s . -deed.update", u.File, u, t.Name())
	}
}
