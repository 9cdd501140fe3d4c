package cli_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/cli"
	"github.com/deed-dev/deed/examples/conference"
	"github.com/deed-dev/deed/examples/league"
	"github.com/deed-dev/deed/examples/orders"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
	"github.com/deed-dev/deed/internal/pgtest"
)

// direct runs the command line on a store, in this process.
func direct(t *testing.T, dsn string, args ...string) (code int, out, talk string) {
	t.Helper()
	var o, e strings.Builder
	args = append(args, "--store", dsn)
	code = cli.Run(t.Context(), args, strings.NewReader(""), &o, &e, orders.Domain, conference.Domain, league.Domain)
	return code, o.String(), e.String()
}

func leagueOf(name string) string {
	return fmt.Sprintf(`{"name":%q,"date_incorporated":"2016-04-01"}`, name)
}

// What a program that opens the store for a moment leaves undone is done by the
// one that serves: the outside effects of events, and commands that nobody
// waited for.
func TestServeDoesTheRest(t *testing.T) {
	for name, dsn := range map[string]string{"sqlite": "sqlite:" + filepath.Join(t.TempDir(), "deed.db"), "postgres": pgtest.Start(t).DSN("guest")} {
		t.Run(name, func(t *testing.T) {
			for _, args := range [][]string{
				{"exec", "attendee", "a", "register", `{"email":"a@example.org"}`},
				{"exec", "attendee", "a", "change-email", `{"email":"b@example.org"}`},
				{"exec", "league", "-", "create", leagueOf("Striders"), "--command-id", "left", "--wait", "0s"},
			} {
				if code, _, talk := direct(t, dsn, args...); code != 0 {
					t.Fatalf("%v: %d %s", args, code, talk)
				}
			}
			if code, out, _ := direct(t, dsn, "view", "outbox"); code != 0 || out != "" {
				t.Errorf("a mail was written where nobody serves: %s", out)
			}
			if _, out, _ := direct(t, dsn, "view", "attendees"); !strings.Contains(out, "a@example.org") {
				t.Errorf("a view that is asked for shows %q", out)
			}
			cmd, base := serve(t, unheard, "--store", dsn)
			c := client.New(base)
			waitForViews(t, c)
			var mail httpapi.Document
			if _, err := c.Do(t.Context(), http.MethodGet, "/v1/views/outbox/a", nil, nil, &mail); err != nil || !strings.Contains(string(mail.Value), "b@example.org") {
				t.Errorf("%s, %v", mail.Value, err)
			}
			var left httpapi.CommandStatus
			if _, err := c.Do(t.Context(), http.MethodGet, "/v1/commands/left?wait=20s", nil, nil, &left); err != nil || left.State != deed.CommandCompleted {
				t.Errorf("%s, %v", left.State, err)
			}
			if name == "postgres" { // beside the server, which does it
				code, out, talk := direct(t, dsn, "exec", "league", "-", "create", leagueOf("Harriers"), "--command-id", "beside", "--wait", "20s")
				if code != 0 || !strings.Contains(out, "is completed") {
					t.Errorf("%d %s %s", code, out, talk)
				}
			}
			cmd.Process.Signal(os.Interrupt)
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

// The exit code of a command that is refused is the same whether it is handled
// at once or in the background.
func TestExitCodes(t *testing.T) {
	dsn := "sqlite:" + filepath.Join(t.TempDir(), "deed.db")
	for _, c := range []struct {
		what string
		args []string
		code int
		says string
	}{
		{"done", []string{"order", "o-1", "create", `{"customer":"ann"}`}, 0, ""},
		{"done in the background", []string{"order", "o-2", "create", `{"customer":"ann"}`, "--async"}, 0, ""},
		{"rejected", []string{"order", "o-1", "submit"}, 7, "order_empty"},
		{"rejected in the background", []string{"order", "o-1", "submit", "--async"}, 7, "order_empty"},
		{"nothing there", []string{"order", "o-9", "submit"}, 3, "there is no order/o-9 (not_found)"},
		{"nothing there in the background", []string{"order", "o-9", "submit", "--async"}, 3, "there is no order/o-9 (not_found)"},
		{"there already", []string{"order", "o-1", "create", `{"customer":"ann"}`}, 4, "order/o-1 exists already (conflict)"},
		{"there already in the background", []string{"order", "o-1", "create", `{"customer":"ann"}`, "--async"}, 4, "order/o-1 exists already (conflict)"},
		{"another version", []string{"order", "o-1", "submit", "--if-version", "7"}, 4, "conflict"},
		{"another version in the background", []string{"order", "o-1", "submit", "--if-version", "7", "--async"}, 4, "conflict"},
		{"invalid", []string{"order", "o-3", "create", `{"colour":"red"}`}, 7, "colour is not a field"},
		{"invalid when it is looked at", []string{"league", "-", "create", leagueOf("")}, 7, "deed command correct"},
		{"within the quota", []string{"league", "-", "create", leagueOf("One"), "--wait", "0s"}, 0, "deed command show"},
		{"within the quota still", []string{"league", "-", "create", leagueOf("Two")}, 0, ""},
		{"over the quota", []string{"league", "-", "create", leagueOf("Three")}, 5, "(quota_exceeded)"},
	} {
		code, out, talk := direct(t, dsn, append([]string{"exec", "--actor", "ann"}, c.args...)...)
		if code != c.code || !strings.Contains(talk, c.says) || c.says == "" && talk != "" {
			t.Errorf("%s: exit code %d, want %d, and it says %q\n%s", c.what, code, c.code, talk, out)
		}
	}
}

// A body is read from a file as any program saves it.
func TestBodyFromAFile(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]string{
		"\ufeff{\r\n\t\"customer\": \"ann\"\r\n}\r\n": "", "\xff\xfe{\x00}\x00": "the file is UTF-16: save it as UTF-8", "\ufeff": "the body is empty",
	} {
		path := filepath.Join(dir, "body.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		code, _, talk := direct(t, "mem:", "exec", "order", "-", "create", "@"+path)
		if (code == 0) != (want == "") || !strings.Contains(talk, want) {
			t.Errorf("%q: %d %s", text, code, talk)
		}
	}
}

// Who does not want to wait longer is told how to look at the command.
func TestWaitingIsOver(t *testing.T) {
	_, base := serve(t, unheard, "--store", "mem:")
	var out, talk strings.Builder
	code := cli.Run(t.Context(), []string{"exec", "league", "-", "create", leagueOf("Slow"), "--command-id", "k", "--wait", "0s", "--server", base}, strings.NewReader(""), &out, &talk)
	want := "It is stored, and not over after 0s: it goes on in the background.\nSee what becomes of it:  deed command show k --server " + base + " --follow\n"
	if code != 0 || talk.String() != want && !strings.Contains(out.String(), "completed") {
		t.Errorf("%d %s\n%s", code, talk.String(), out.String())
	}
	out.Reset()
	talk.Reset()
	start := time.Now()
	code = cli.Run(t.Context(), []string{"command", "show", "k", "--follow", "--server", base}, strings.NewReader(""), &out, &talk)
	if code != 0 || !strings.Contains(out.String(), "completed") {
		t.Errorf("after %v: %d %s\n%s", time.Since(start), code, talk.String(), out.String())
	}
}
