package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deed-dev/deed/cli"
	"github.com/deed-dev/deed/examples/orders"
	"github.com/deed-dev/deed/httpapi"
)

// A heard is what a program says, to be read while it runs.
type heard struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (h *heard) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.all.Write(b)
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.all.String()
}

// waitFor returns what a pattern finds as soon as it is said.
func (h *heard) waitFor(t *testing.T, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for range 2000 {
		if found := re.FindString(h.String()); found != "" {
			return found
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%q is not said, but\n%s", pattern, h)
	return ""
}

// deed runs a command to its end.
func runDeed(t *testing.T, args ...string) (code int, out, talk string) {
	t.Helper()
	var o, e bytes.Buffer
	code = cli.Run(t.Context(), args, strings.NewReader(""), &o, &e, orders.Domain)
	return code, o.String(), e.String()
}

// background runs `deed` with arguments until the test ends, and returns what
// it says.
func background(t *testing.T, args ...string) *heard {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	said, ended := &heard{}, make(chan int, 1)
	go func() { ended <- cli.Run(ctx, args, strings.NewReader(""), said, said, orders.Domain) }()
	t.Cleanup(func() {
		cancel()
		if code := <-ended; code != 0 {
			t.Errorf("deed %q ends with %d:\n%s", args, code, said)
		}
	})
	return said
}

const printedAddress = `http://127\.0\.0\.1:\d+`

func TestServeChecksAccess(t *testing.T) {
	dir := t.TempDir()
	code, root, talk := runDeed(t, "key", "create", "--data", dir, "--actor", "root", "--role", "admin")
	if code != 0 {
		t.Fatal(talk)
	}
	root = strings.TrimSpace(root)
	settings := filepath.Join(dir, "settings.json")
	keyFile := filepath.Join(dir, "root.key")
	for path, text := range map[string]string{settings: `{"auth":"keys"}`, keyFile: root + "\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	server := background(t, "serve", "--store", "sqlite:"+filepath.Join(dir, "deed.db"), "--addr", "127.0.0.1:0", "--config", settings, "--verbose")
	server.waitFor(t, "Access is checked: API keys")
	t.Setenv("DEED_SERVER", server.waitFor(t, printedAddress))
	deed := func(want int, args ...string) string {
		t.Helper()
		code, out, talk := runDeed(t, args...)
		if code != want {
			t.Errorf("deed %q: %d, want %d: %s%s", args, code, want, out, talk)
		}
		return out + talk
	}
	if said := deed(5, "followers"); !strings.Contains(said, "DEED_KEY") {
		t.Errorf("nobody is told how to show a key: %s", said)
	}
	deed(5, "followers", "--key", root+"x")
	deed(0, "followers", "--key", "@"+keyFile)

	t.Setenv("DEED_KEY", root)
	var clerk httpapi.IssuedKey
	if err := json.Unmarshal([]byte(deed(0, "key", "create", "--actor", "clerk", "--role", "reader", "--json")), &clerk); err != nil {
		t.Fatal(err)
	}
	t.Setenv("USER", "somebody")
	deed(0, "exec", "order", "o-1", "create", `{"customer":"c"}`)
	if said := deed(0, "stream", "order/o-1", "--json"); !strings.Contains(said, `"actor":"root"`) {
		t.Errorf("the key does not say who asks: %s", said)
	}

	t.Setenv("DEED_KEY", clerk.Text)
	deed(0, "view", "order-summaries")
	deed(0, "events")
	deed(5, "followers")
	deed(5, "key", "list")
	deed(5, "exec", "order", "o-1", "submit") // no role is named: administrators only
	t.Setenv("DEED_KEY", root)
	deed(0, "key", "rotate", clerk.ID, "--overlap", "0s")
	t.Setenv("DEED_KEY", clerk.Text)
	deed(5, "events")
	t.Setenv("DEED_KEY", root)
	deed(0, "key", "revoke", clerk.ID, "--reason", "a test")
	if list := deed(0, "key", "list"); !strings.Contains(list, "revoked") {
		t.Error(list)
	}
	deed(4, "key", "rotate", clerk.ID)
	for _, text := range []string{root, clerk.Text} {
		if secret := text[strings.LastIndex(text, "_")+1:]; strings.Contains(server.String(), secret) {
			t.Error("the server says a secret")
		}
	}
	if !strings.Contains(server.String(), "actor=clerk") {
		t.Error("the server's log does not say who asks")
	}
}

func TestServersSayWhetherAccessIsChecked(t *testing.T) {
	for want, args := range map[string][]string{
		"Access is not checked: anybody":       {"serve", "--store", "mem:"},
		"Access is not checked: anybody who":   {"demo", "--store", "mem:", "--no-visitors"},
		"There is no key yet.*deed key create": {"serve", "--store", "mem:", "--auth", "keys"},
		"Access is checked: tokens of https://id.example.com for shop": {
			"serve", "--store", "mem:", "--oidc-issuer", "https://id.example.com", "--oidc-audience", "shop", "--jwks", "none.json"},
		"no token can be checked yet": {
			"serve", "--store", "mem:", "--oidc-issuer", "https://id.example.com", "--oidc-audience", "shop", "--jwks", "none.json"},
		"Access is checked: API keys, tokens of": {
			"serve", "--store", "mem:", "--auth", "keys", "--oidc-issuer", "https://id.example.com", "--oidc-audience", "shop", "--jwks", "none.json"},
	} {
		background(t, append(args, "--addr", "127.0.0.1:0")...).waitFor(t, want)
	}
}
