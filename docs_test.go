package deed_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deed-dev/deed/internal/mermaidtest"
)

// The documents are programs too: what stands in them is compiled and run.

// block returns the first fenced block of a language in a document.
func block(t *testing.T, doc, language string) string {
	t.Helper()
	_, rest, found := strings.Cut(doc, "```"+language+"\n")
	text, _, closed := strings.Cut(rest, "\n```")
	if !found || !closed {
		t.Fatalf("no block of %s", language)
	}
	return text + "\n"
}

var fileBlock = regexp.MustCompile("(?s)File `([^`]+)`:\n\n```go\n(.*?\n)```")

// scaffold makes a module of its own that uses this working copy of deed.
func scaffold(t *testing.T, name string, files map[string]string) string {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	sum, err := os.ReadFile("go.sum")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(mod), "module "+module, "module "+name, 1)
	text += "\nrequire " + module + " v0.0.0\n\nreplace " + module + " => " + here + "\n"
	write(t, dir, "go.mod", text)
	write(t, dir, "go.sum", string(sum))
	for path, text := range files {
		write(t, dir, path, text)
	}
	return dir
}

func write(t *testing.T, dir, path, text string) {
	t.Helper()
	path = filepath.Join(dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// command runs the go command in a folder and returns what it prints.
func command(t *testing.T, dir string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS="+os.Getenv("GOFLAGS")+" -mod=mod", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestReadmeProgram(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program")
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := scaffold(t, "example.com/wallet", map[string]string{"main.go": block(t, string(readme), "go")})
	got := command(t, dir, "run", ".")
	want := block(t, string(readme), "text")
	if got != want {
		t.Errorf("the program prints\n%sand the README says\n%s", got, want)
	}
}

// Each guide ends with a program, and says what that prints.
func TestGuides(t *testing.T) {
	if testing.Short() {
		t.Skip("builds programs")
	}
	for _, name := range []string{"commands", "processes"} {
		t.Run(name, func(t *testing.T) {
			guide, err := os.ReadFile("docs/guide-" + name + ".md")
			if err != nil {
				t.Fatal(err)
			}
			dir := scaffold(t, "example.com/"+name, map[string]string{"main.go": block(t, string(guide), "go")})
			got := command(t, dir, "run", ".")
			want := block(t, string(guide), "text")
			if got != want {
				t.Errorf("the program prints\n%sand the guide says\n%s", got, want)
			}
		})
	}
}

func TestTutorial(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program")
	}
	tutorial, err := os.ReadFile("docs/tutorial.md")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, m := range fileBlock.FindAllStringSubmatch(string(tutorial), -1) {
		files[m[1]] = m[2]
	}
	if len(files) != 3 {
		t.Fatalf("the tutorial has %d files", len(files))
	}
	dir := scaffold(t, "example.com/booking", files)
	command(t, dir, "test", ".", "-deed.update")
	command(t, dir, "test", ".")
	command(t, dir, "vet", "./...")
	got := command(t, dir, "run", "./cmd/booking", "exec", "--store", "sqlite:"+filepath.Join(dir, "rooms.db"),
		"booking", "b-1", "book", `{"room":"blue","day":"2999-01-01","by":"ann"}`)
	if !strings.Contains(got, "b-1") {
		t.Errorf("the tutorial's program answers %q", got)
	}
}

// The maps of the examples are those of the program.
func TestMapsAreCurrent(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program")
	}
	have, err := os.ReadFile("docs/maps.md")
	if err != nil {
		t.Fatal(err)
	}
	got, err := exec.CommandContext(t.Context(), deedProgram(t), "map", "--store", "mem:", "--markdown").Output()
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(have) {
		t.Errorf("docs/maps.md is not what the program says: run make maps. The program says\n%s", got)
	}
}

var deedBinary struct {
	sync.Once
	path string
}

// deedProgram builds the program of the examples, once.
func deedProgram(t *testing.T) string {
	t.Helper()
	deedBinary.Do(func() {
		dir, err := os.MkdirTemp("", "deed-docs-")
		if err != nil {
			t.Fatal(err)
		}
		deedBinary.path = filepath.Join(dir, "deed")
		command(t, ".", "build", "-o", deedBinary.path, "./cmd/deed")
	})
	return deedBinary.path
}

var mermaidBlock = regexp.MustCompile("(?s)```mermaid\n(.*?\n)```")

// Every diagram in the documents can be drawn.
func TestDiagramsInDocuments(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a browser")
	}
	paths, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	diagrams := map[string]string{}
	for _, path := range append(paths, "README.md") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range mermaidBlock.FindAllStringSubmatch(string(text), -1) {
			diagrams[fmt.Sprintf("%s, diagram %d", path, i+1)] = m[1]
		}
	}
	if len(diagrams) < 4 {
		t.Errorf("the documents have %d diagrams", len(diagrams))
	}
	mermaidtest.Draw(t, diagrams)
}
