package deed_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/deed-dev/deed"

// packages returns what each package of the module imports, tests apart.
func packages(t *testing.T) map[string][]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}} {{join .Imports \" \"}}", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		all[strings.TrimPrefix(strings.TrimPrefix(f[0], module), "/")] = f[1:]
	}
	return all
}

func within(pkg string, rooms ...string) bool {
	return slices.ContainsFunc(rooms, func(r string) bool {
		return pkg == r || strings.HasSuffix(r, "/...") && strings.HasPrefix(pkg+"/", strings.TrimSuffix(r, "...")) && pkg != strings.TrimSuffix(r, "/...")
	})
}

// The rooms of the house, and who may enter them: only those who are named
// import a package of ours.
func TestImports(t *testing.T) {
	users := map[string][]string{
		"":                         {"deedtest", "httpapi", "cli", "cmd/...", "examples/...", "internal/simulate", "internal/bench", "internal/inbox", "internal/sinks", "internal/diagram", "internal/inbound", "internal/asyncapi", "internal/contract", "notify", "internal/notices", "internal/program", "internal/consume"},
		"store":                    {"", "internal/inbound", "examples/...", "internal/engine", "internal/delivery", "store/...", "auth", "deedtest", "httpapi", "cli", "internal/bench", "internal/verify", "internal/copylog", "internal/backends", "internal/faulty", "internal/program"},
		"store/mem":                {"deedtest", "cli"},
		"store/sqlite":             {"cli", "internal/bench", "internal/backends"},
		"store/postgres":           {"cli", "internal/backends"},
		"internal/pgtest":          {"internal/backends"},
		"internal/powercut":        {},
		"internal/natstest":        {"internal/backends"},
		"internal/backends":        {"internal/program"},
		"internal/faulty":          {"internal/program"},
		"store/storetest":          {"internal/verify"},
		"store/storetest/history":  {"internal/verify"},
		"internal/verify":          {"cli"},
		"internal/copylog":         {"cli"},
		"store/split":              {"cli"},
		"store/jetstream":          {"cli", "internal/backends"},
		"internal/wire":            {"", "internal/bench", "internal/inbox", "internal/bulk", "auth", "httpapi", "internal/schema", "internal/inbound"},
		"internal/inbound":         {"httpapi", "cli", "internal/consume"},
		"internal/inbox":           {"cli"},
		"internal/httptry":         {"internal/apicheck"},
		"internal/textfile":        {"cli", "internal/inbox", "internal/bulk"},
		"internal/bulk":            {"cli"},
		"internal/diagram":         {"httpapi"},
		"internal/mermaidtest":     {},
		"internal/engine":          {"", "internal/delivery", "internal/webhook", "internal/broker", "internal/broker/..."},
		"internal/delivery":        {"", "internal/webhook", "internal/broker", "internal/broker/..."},
		"internal/webhook":         {"cli", "internal/program"},
		"internal/broker":          {"cli", "internal/consume", "internal/broker/..."}, // what the kinds of brokers share
		"internal/broker/nats":     {"cli", "internal/consume"},
		"internal/broker/kafka":    {"cli", "internal/consume"},
		"internal/broker/rabbitmq": {"cli", "internal/consume"},
		"internal/rabbittest":      {},
		"internal/client":          {"cli", "internal/simulate", "internal/bench"},
		"internal/sinks":           {"cli", "internal/webhook", "internal/program"},
		"internal/simulate":        {"cli"},
		"internal/bench":           {"cli"},
		"auth":                     {"httpapi", "cli"},
		"httpapi":                  {"cli", "deedtest", "internal/client", "internal/simulate", "internal/bench", "internal/inbox", "internal/program"},
		"deedtest":                 {},
		"cli":                      {"cmd/deed"},
		"examples/money":           {"examples/..."},
		"examples/orders":          {"cmd/deed"},
		"examples/conference":      {"cmd/deed"},
		"examples/bank":            {"cmd/deed"},
		"examples/credits":         {"cmd/deed"},
		"examples/farm":            {"cmd/deed"},
		"examples/league":          {"cmd/deed"},
		"cmd/deed":                 {},
		"internal/schema":          {"internal/asyncapi", "internal/contract", "internal/openapi", "httpapi"},
		"internal/openapi":         {"httpapi"},
		"internal/asyncapi":        {"internal/contract", "httpapi"},
		"internal/contract":        {"cli", "deedtest"},
		"internal/apicheck":        {},
		"internal/durable":         {"internal/sinks", "notify"},
		"notify":                   {"examples/...", "internal/notices"},
		"internal/notices":         {"cli"},
		"internal/smtptest":        {},
		"internal/program":         {},

		"internal/consume":            {"cli"},
		"internal/broker/brokertest":  {},
		"examples/conference/worker":  {},
		"examples/credits/fraudcheck": {},
		"examples/orders/inventory":   {},
		"examples/receiver":           {},

		"store/internal/groupcommit": {"store/sqlite", "store/postgres", "store/jetstream"},
	}
	for pkg, imports := range packages(t) {
		if _, ok := users[pkg]; !ok {
			t.Errorf("the package %q has no place in the house: add it to this table", pkg)
		}
		for _, i := range imports {
			used, ours := strings.CutPrefix(i, module)
			used = strings.TrimPrefix(used, "/")
			if ours && !within(pkg, users[used]...) {
				t.Errorf("%q must not import %q", pkg, used)
			}
			if pkg == "store" && (ours || strings.Contains(i, ".")) {
				t.Errorf("store imports %q: only the standard library is allowed", i)
			}
		}
	}
}

// Every exported name says what it means.
func TestEverythingIsDocumented(t *testing.T) {
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		if ast.IsGenerated(f) {
			return nil
		}
		for _, decl := range f.Decls {
			for _, name := range undocumented(decl) {
				t.Errorf("%s: %s has no comment", path, name)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	for pkg := range packages(t) {
		if !hasPackageComment(t, pkg) {
			t.Errorf("the package %q has no comment", pkg)
		}
	}
}

func hasPackageComment(t *testing.T, pkg string) bool {
	files, err := filepath.Glob(filepath.Join(".", filepath.FromSlash(pkg), "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(path string) bool {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.PackageClauseOnly)
		return err == nil && f.Doc != nil
	})
}

func undocumented(decl ast.Decl) (names []string) {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Doc == nil && d.Name.IsExported() && exportedReceiver(d) && !wellKnown(d) {
			return []string{d.Name.Name}
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
					names = append(names, s.Name.Name)
				}
			case *ast.ValueSpec:
				if s.Names[0].IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
					names = append(names, s.Names[0].Name)
				}
			}
		}
	}
	return names
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	switch x := typ.(type) {
	case *ast.IndexExpr:
		typ = x.X
	}
	name, ok := typ.(*ast.Ident)
	return ok && name.IsExported()
}

// wellKnown are the methods whose meaning their interface gives.
func wellKnown(d *ast.FuncDecl) bool {
	return d.Recv != nil && slices.Contains([]string{"Apply", "Decide", "Validate", "Stamp", "Error", "Unwrap", "String"}, d.Name.Name)
}

// budget is how many exported functions, types and methods the root package
// may have. It is small on purpose: what people must know to use deed.
const budget = 370

func TestRootStaysSmall(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range f.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && exportedReceiver(d) {
					n++
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if s, ok := spec.(*ast.TypeSpec); ok && s.Name.IsExported() {
						n++
					}
				}
			}
		}
	}
	t.Logf("%d exported functions, types and methods", n)
	if n > budget {
		t.Errorf("the root package exports %d functions, types and methods, the budget is %d", n, budget)
	}
}
