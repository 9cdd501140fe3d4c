// Package mermaidtest draws diagrams for tests as a reader would see them: with
// the real Mermaid, in a real browser.
package mermaidtest

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// Version is the version of Mermaid that .ci/needs puts into the cache.
const Version = "12.3.0"

// A Drawing is what came of a diagram.
type Drawing struct {
	Name          string   `json:"name"`
	Error         string   `json:"error"` // why it is none
	SVG           string   `json:"svg"`
	Width, Height float64  // in pixels
	Nodes         []string `json:"nodes"`  // what stands in them
	Groups        []string `json:"groups"` // what stands above them
	Edges         int      `json:"edges"`
}

// patience is how long a browser on a slow machine may take.
const patience = 2 * time.Minute

//go:embed page.html
var page []byte

// Draw draws diagrams, known by names. One that is not valid fails the test, and
// so does a machine that cannot draw: `make needs` installs what it lacks.
func Draw(t testing.TB, diagrams map[string]string) map[string]Drawing {
	t.Helper()
	all, err := draw(t.TempDir(), diagrams)
	if err != nil {
		t.Fatalf("DIAGRAMS CANNOT BE DRAWN HERE: %v", err)
	}
	for name := range diagrams {
		d, ok := all[name]
		if !ok || d.Error != "" || d.Width < 10 || d.Height < 10 {
			t.Errorf("%s is no diagram: %s\n%s", name, d.Error, diagrams[name])
		}
	}
	return all
}

// answer is what the page says.
type answer struct {
	Trouble  string    `json:"trouble"`
	Drawings []Drawing `json:"drawings"`
}

func draw(dir string, diagrams map[string]string) (map[string]Drawing, error) {
	browser, err := findBrowser()
	if err != nil {
		return nil, err
	}
	library, err := library()
	if err != nil {
		return nil, err
	}
	answers := make(chan answer, 1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	srv := &http.Server{Handler: site(library, diagrams, answers)}
	go srv.Serve(l)
	defer srv.Close()

	var said bytes.Buffer
	cmd := exec.Command(browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
		"--no-first-run", "--remote-debugging-port=0", "--user-data-dir="+filepath.Join(dir, "browser"), "http://"+l.Addr().String()+"/")
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a browser is several processes
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	over := false
	defer func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		if !over {
			<-ended
		}
	}()
	select {
	case a := <-answers:
		if a.Trouble != "" {
			return nil, fmt.Errorf("the page says: %s", a.Trouble)
		}
		all := map[string]Drawing{}
		for _, d := range a.Drawings {
			all[d.Name] = d
		}
		return all, nil
	case err := <-ended:
		over = true
		return nil, fmt.Errorf("%s ended: %v\n%s", browser, err, said.String())
	case <-time.After(patience):
		return nil, fmt.Errorf("%s has drawn nothing in %v", browser, patience)
	}
}

// site is the page and what it asks for.
func site(library []byte, diagrams map[string]string, answers chan<- answer) http.Handler {
	type diagram struct {
		Name string `json:"name"`
		Text string `json:"text"`
	}
	list := []diagram{}
	for _, name := range slices.Sorted(maps.Keys(diagrams)) {
		list = append(list, diagram{name, diagrams[name]})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { w.Write(page) })
	mux.HandleFunc("GET /mermaid.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		w.Write(library)
	})
	mux.HandleFunc("GET /diagrams", func(w http.ResponseWriter, _ *http.Request) { json.NewEncoder(w).Encode(list) })
	mux.HandleFunc("POST /drawn", func(_ http.ResponseWriter, r *http.Request) {
		var a answer
		if err := json.NewDecoder(r.Body).Decode(&a); err != nil {
			a.Trouble = err.Error()
		}
		select {
		case answers <- a:
		default: // the first one counts
		}
	})
	return mux
}

func findBrowser() (string, error) {
	for _, name := range []string{"chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("there is no Chromium: make needs installs one")
}

// library is Mermaid, from the cache.
func library() ([]byte, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join(cache, "deed", "mermaid-"+Version+".min.js"))
	if err != nil {
		return nil, fmt.Errorf("%w: make needs installs it", err)
	}
	return b, nil
}
