package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
	"github.com/deed-dev/deed/internal/textfile"
)

func (a *app) exec() *cobra.Command {
	var id, ifVersion, actor string
	var async bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "exec AGGREGATE ID COMMAND [JSON]",
		Short: "Ask a command of an entity",
		Long: `Ask a command of an entity. The JSON is the command's body: an argument,
@FILE, or - for standard input; without it the command has no fields. With - as
the ID the server makes one.

A command that is handled in the background is waited for, for --wait. If it
is not over then, the exit code is 0, for it is stored, and a line on standard
error says how to look at it. On a --store that nobody else can have open, it
is handled while it is waited for, and goes on when the store is served.`,
		Example: `  deed exec order o-1 create '{"customer":"ann"}'
  deed exec order o-1 submit --if-version 3
  deed exec order - create @order.json --command-id 7f1c
  deed exec league Blackrock create @league.json --wait 0s`,
		Args: args(cobra.RangeArgs(3, 4)),
		RunE: func(cmd *cobra.Command, given []string) error {
			if wait < 0 || wait > httpapi.MaxCommandWait {
				return usageError{fmt.Errorf("--wait %v: use 0s to %v", wait, httpapi.MaxCommandWait)}
			}
			body := []byte("{}")
			if len(given) == 4 {
				var err error
				if body, err = a.body(given[3]); err != nil {
					return err
				}
			}
			headers := a.asking(cmd, actor)
			for name, v := range map[string]string{"Idempotency-Key": id, "If-Match": ifVersion} {
				if v != "" {
					headers[name] = v
				}
			}
			headers["Prefer"] = fmt.Sprintf("wait=%d", int(math.Ceil(wait.Seconds())))
			if async {
				headers["Prefer"] += ", respond-async"
			}
			parts := []string{"v1", given[0], given[1], given[2]}
			if given[1] == "-" {
				parts = []string{"v1", given[0], given[2]}
			}
			a.creates = true
			return a.with(cmd.Context(), func(c *client.Client) error {
				var answer json.RawMessage
				h, err := c.Do(cmd.Context(), http.MethodPost, client.Path(nil, parts...), headers, body, &answer)
				id, stored := strings.CutPrefix(h.Get("Location"), "/v1/commands/")
				switch {
				case err != nil && stored:
					return a.correctable(err, id)
				case err != nil:
					return err
				case stored:
					return a.showStored(answer, wait)
				}
				return a.showReceipt(answer)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&id, "command-id", "", "the command's id: asking again with it gives the first answer again")
	f.StringVar(&ifVersion, "if-version", "", "only if the entity is at this version")
	actorFlag(f, &actor)
	f.BoolVar(&async, "async", false, "store the command, and have it handled in the background")
	f.DurationVar(&wait, "wait", 30*time.Second, "how long to wait for a command that is handled in the background, up to 60s")
	return cmd
}

func actorFlag(f *pflag.FlagSet, actor *string) {
	f.StringVar(actor, "actor", os.Getenv("USER"), "who asks; at a server that checks access, administrators only may say so")
}

// asking are the headers of a request of somebody: of whom the key says, if
// there is one and nobody else was named.
func (a *app) asking(cmd *cobra.Command, actor string) map[string]string {
	if actor == "" || a.key != "" && a.store == "" && !cmd.Flags().Changed("actor") {
		return map[string]string{}
	}
	return map[string]string{"X-Actor": actor}
}

// showReceipt prints what became of a command.
func (a *app) showReceipt(answer []byte) error {
	var r deed.Receipt
	if err := json.Unmarshal(answer, &r); err != nil {
		return err
	}
	return a.show(r, func() {
		a.print("%s is at version %d\n", r.Stream, r.Version)
		for _, e := range r.Events {
			a.print("  %d  %s\n", e.Version, e.Type)
		}
	})
}

// showStored prints how a stored command stands after it was waited for.
func (a *app) showStored(answer []byte, waited time.Duration) error {
	var s httpapi.CommandStatus
	if err := json.Unmarshal(answer, &s); err != nil {
		return err
	}
	if s.State == deed.CommandFailed {
		a.code = exitFailed
	}
	return a.show(s.CommandStatus, func() {
		a.printCommand(s)
		a.whatNext(s.CommandStatus, waited)
	})
}

// whatNext says what can be done about a stored command that is not over.
func (a *app) whatNext(s deed.CommandStatus, waited time.Duration) {
	switch {
	case s.State.Over():
		return
	case s.State == deed.CommandFailed:
		a.say("When the cause is gone, let it go on:  deed command resume %[1]s%[2]s\nOr call it off:                        deed command cancel %[1]s%[2]s\n", s.ID, a.at())
		return
	case a.store != "":
		a.say("It is stored, and not over after %v. %s\n", waited, a.served())
		a.say("See how it stands:  deed command show %s%s\n", s.ID, a.at())
	default:
		a.say("It is stored, and not over after %v: it goes on in the background.\n", waited)
		a.say("See what becomes of it:  deed command show %s%s --follow\n", s.ID, a.at())
	}
}

// served says who goes on with a command of a store that this program has only
// opened to ask or to look.
func (a *app) served() string {
	return "It goes on where the store is served: deed serve --store " + hidden(a.store)
}

// correctable adds to the problem of a stored command what can be done about it.
func (a *app) correctable(err error, escaped string) error {
	id, bad := url.PathUnescape(escaped)
	if p, ok := errors.AsType[httpapi.Problem](err); !ok || bad != nil || p.Code != httpapi.CodeInvalid {
		return err
	}
	return advised{err, fmt.Sprintf("It is stored. Give it other parameters:  deed command correct %[1]s JSON%[2]s\nOr call it off:                          deed command cancel %[1]s%[2]s", id, a.at())}
}

// at is the flag that names where a command was asked, with a blank before it;
// "" if it is where commands are asked without a flag.
func (a *app) at() string {
	switch {
	case a.store != "":
		return " --store " + hidden(a.store)
	case a.server != defaultServer:
		return " --server " + a.server
	}
	return ""
}

// body reads the JSON that an argument stands for.
func (a *app) body(arg string) ([]byte, error) {
	var b []byte
	var err error
	switch {
	case arg == "-":
		b, err = io.ReadAll(a.in)
	case len(arg) > 1 && arg[0] == '@':
		b, err = os.ReadFile(arg[1:])
	default:
		b = []byte(arg)
	}
	if err != nil {
		return nil, usageError{err}
	}
	mark, err := textfile.Mark(b)
	if err != nil {
		return nil, usageError{err}
	}
	b = b[mark:]
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, usageError{errors.New("the body is empty: leave the argument out, or give JSON")}
	}
	if !json.Valid(b) {
		return nil, usageError{fmt.Errorf("the body is not JSON: %s", bytes.TrimSpace(b[:min(len(b), 100)]))}
	}
	return b, nil
}
