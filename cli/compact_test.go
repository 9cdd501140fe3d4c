package cli_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/cli"
	"github.com/deed-dev/deed/examples/league"
	"github.com/deed-dev/deed/examples/orders"
	"github.com/deed-dev/deed/internal/natstest"
	"github.com/deed-dev/deed/internal/pgtest"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/postgres"
	"github.com/deed-dev/deed/store/sqlite"
)

// agedLog is a log with commands of last year, and the checkpoint of a follower
// that nobody has any more.
func agedLog(t *testing.T, s store.Store, many int) {
	t.Helper()
	var recs []store.Record
	record := func(stream string, version uint64, typ, data string) {
		r := store.Record{Stream: stream, Version: version, Type: typ, Data: []byte(data), Meta: []byte(`{"actor":"ann"}`), Time: time.Now().Add(-365 * 24 * time.Hour).Truncate(time.Microsecond)}
		copy(r.ID[:], fmt.Sprintf("%016d", len(recs)))
		recs = append(recs, r)
	}
	outcome := `{"command":"order.submit","stream":"order/o-1","hash":"h","code":"no","reason":"no"}`
	for i := range many {
		record(fmt.Sprintf("$command/s%d", i), 1, "received", `{"command":"order.submit","stream":"order/o-1","hash":"h","body":{}}`)
		record("order/o-1", uint64(i+1), "created", `{"customer":"ann"}`)
		record(fmt.Sprintf("$command/d%d", i), 1, "accepted", outcome)
		record(fmt.Sprintf("$command/s%d", i), 2, "rejected", outcome)
	}
	if err := store.Import(t.Context(), s, recs); err != nil {
		t.Fatal(err)
	}
	haveServed(t, s)
	err := errors.Join(s.Write(t.Context(), store.Change{Coll: "$cursor", Key: "old-mails/1/0-of-1", Data: []byte(`{"cursor":"7"}`)}), s.Close())
	if err != nil {
		t.Fatal(err)
	}
}

// haveServed has all that is recorded handled, by a program that serves.
func haveServed(t *testing.T, s store.Store) {
	t.Helper()
	head, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{orders.Domain, league.Domain}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- rt.Run(ctx) }()
	if err := rt.WaitFor(ctx, deed.Receipt{Position: string(head)}); err != nil {
		t.Error(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// deedCLI runs the program and returns its exit code and what it prints.
func deedCLI(t *testing.T, args ...string) (int, string, string) {
	t.Helper()
	var out, talk bytes.Buffer
	code := cli.Run(t.Context(), args, strings.NewReader(""), &out, &talk, orders.Domain, league.Domain)
	return code, out.String(), talk.String()
}

// Records of commands are given up from the command line, on a file and on
// PostgreSQL; the check, copies and what is asked afterwards go by what is left.
func TestCompact(t *testing.T) {
	const many = 700
	for name, open := range map[string]func(t *testing.T) (string, store.Store, error){
		"sqlite": func(t *testing.T) (string, store.Store, error) {
			path := filepath.Join(t.TempDir(), "deed.db")
			s, err := sqlite.Open(path, nil)
			return "sqlite:" + path, s, err
		},
		"postgres": func(t *testing.T) (string, store.Store, error) {
			dsn := pgtest.Start(t).DSN("deed")
			s, err := postgres.Open(t.Context(), dsn, nil)
			return dsn, s, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn, s, err := open(t)
			if err != nil {
				t.Fatal(err)
			}
			agedLog(t, s, many)
			want := func(text string, args ...string) {
				t.Helper()
				if code, out, talk := deedCLI(t, append(args, "--store", dsn)...); code != 0 || !strings.Contains(out, text) {
					t.Fatalf("deed %s: exit %d, %q\n%s\n%s", strings.Join(args, " "), code, text, out, talk)
				}
			}
			if code, out, talk := deedCLI(t, "compact", "--older-than", "8000h", "--store", dsn); code != 0 || !strings.Contains(out, "4 records") || !strings.Contains(talk, "waits for the follower old-mails") {
				t.Errorf("with a follower in the way: exit %d: %s%s", code, out, talk)
			}
			want("old-mails is forgotten", "followers", "forget", "old-mails", "--reason", "nobody reads them")
			left, gone := 2*many-3, 3*many-4
			given := fmt.Sprintf("$command  %d\n%d records older than ", left, gone)
			want(given, "compact", "--older-than", "8000h", "--dry-run")
			want("0 records older than", "compact", "--older-than", "9000h")
			want(fmt.Sprintf(`"streams":{"$command":%d},"records":%d,"kept":0,`, left, gone), "compact", "--older-than", "8000h", "--json")
			want("sound", "check")
			want(fmt.Sprintf("%d events were given up", 3*many), "check")
			want("", "view", "command-errors")
			want(fmt.Sprintf("order/o-1@%d", many), "stream", "order/o-1", "--backward", "--limit", "1")
			want(`"type":"compacted"`, "stream", "$audit/compaction", "--json")
			if code, _, talk := deedCLI(t, "command", "show", "s1", "--store", dsn); code != 3 {
				t.Errorf("a command that was given up: exit %d: %s", code, talk)
			}
			copied := "sqlite:" + filepath.Join(t.TempDir(), "copy.db")
			if code, out, talk := deedCLI(t, "copy", "--from", dsn, "--to", copied); code != 0 {
				t.Errorf("copy: exit %d: %s%s", code, out, talk)
			}
			if code, out, _ := deedCLI(t, "check", "--store", copied); code != 0 || !strings.Contains(out, "sound") {
				t.Errorf("check of the copy: exit %d: %s", code, out)
			}
		})
	}
}

// What cannot be done is said, with a code for programs.
func TestCompactIsRefused(t *testing.T) {
	nats := natstest.Start(t, t.TempDir(), 1, nil).URL("app") + "?sync=always"
	file := "sqlite:" + filepath.Join(t.TempDir(), "deed.db")
	settings := filepath.Join(t.TempDir(), "settings.json")
	if err := os.WriteFile(settings, []byte(`{"keep-commands": "3h"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	serve := func(more ...string) []string {
		return append([]string{"serve", "--store", "mem:", "--addr", "127.0.0.1:0"}, more...)
	}
	for _, c := range []struct {
		args []string
		env  string // of --keep-commands
		code int
		says string
	}{
		{[]string{"compact", "--store", file}, "", 2, "--older-than 720h"},
		{[]string{"compact", "--older-than", "30d", "--store", file}, "", 2, "invalid argument"},
		{[]string{"compact", "--older-than", "720h", "--store", nats}, "", 1, "this store gives up no streams (unsupported)"},
		{[]string{"compact", "--older-than", "720h", "--store", nats, "--json"}, "", 1, `"code":"unsupported"`},
		{[]string{"serve", "--keep-commands", "720h", "--store", nats, "--addr", "127.0.0.1:0"}, "", 2, "this store gives up no streams"},
		{serve("--keep-commands", "-1h"), "", 2, "must be longer than nothing"},
		{serve("--keep-commands", "1h"), "2h", 2, "KeepCommands is 1h0m0s, and league.create has a quota for 24h0m0s"},
		{serve("--config", settings), "2h", 2, "KeepCommands is 2h0m0s"},
		{serve("--config", settings), "", 2, "KeepCommands is 3h0m0s"},
	} {
		t.Setenv("DEED_KEEP_COMMANDS", c.env)
		if code, out, talk := deedCLI(t, c.args...); code != c.code || !strings.Contains(talk, c.says) {
			t.Errorf("deed %s: exit %d, want %d and %q: %s%s", strings.Join(c.args, " "), code, c.code, c.says, out, talk)
		}
	}
}
