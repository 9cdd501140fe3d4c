package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
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

A command that is handled in the background is waited for, for --wait; what
becomes of it later, deed command show tells.`,
		Example: `  deed exec order o-1 create '{"customer":"ann"}'
  deed exec order o-1 submit --if-version 3
  deed exec order - create @order.json --command-id 7f1c
  deed exec league Blackrock create @league.json --wait 0s`,
		Args: args(cobra.RangeArgs(3, 4)),
		RunE: func(cmd *cobra.Command, given []string) error {
			body := []byte("{}")
			if len(given) == 4 {
				var err error
				if body, err = a.body(given[3]); err != nil {
					return err
				}
			}
			if a.key != "" && a.store == "" && !cmd.Flags().Changed("actor") {
				actor = "" // the key says who asks
			}
			headers := map[string]string{}
			for name, v := range map[string]string{"Idempotency-Key": id, "If-Match": ifVersion, "X-Actor": actor} {
				if v != "" {
					headers[name] = v
				}
			}
			headers["Prefer"] = fmt.Sprintf("wait=%d", int(wait.Seconds()))
			if async {
				headers["Prefer"] += ", respond-async"
			}
			parts := []string{"v1", given[0], given[1], given[2]}
			if given[1] == "-" {
				parts = []string{"v1", given[0], given[2]}
			}
			a.creates, a.asks = true, true
			return a.with(cmd.Context(), func(c *client.Client) error {
				var answer json.RawMessage
				h, err := c.Do(cmd.Context(), http.MethodPost, client.Path(nil, parts...), headers, body, &answer)
				if err != nil {
					return err
				}
				if strings.HasPrefix(h.Get("Location"), "/v1/commands/") {
					return a.showStored(answer)
				}
				return a.showReceipt(answer)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&id, "command-id", "", "the command's id: asking again with it gives the first answer again")
	f.StringVar(&ifVersion, "if-version", "", "only if the entity is at this version")
	f.StringVar(&actor, "actor", os.Getenv("USER"), "who asks; at a server that checks access, administrators only may say so")
	f.BoolVar(&async, "async", false, "store the command, and have it handled in the background")
	f.DurationVar(&wait, "wait", 30*time.Second, "how long to wait for a command that is handled in the background, up to 60s")
	return cmd
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

// showStored prints how a stored command stands.
func (a *app) showStored(answer []byte) error {
	var s httpapi.CommandStatus
	if err := json.Unmarshal(answer, &s); err != nil {
		return err
	}
	if s.State == deed.CommandFailed {
		a.code = exitFailed
	}
	return a.show(s.CommandStatus, func() {
		a.printCommand(s)
		if !s.State.Over() {
			a.say("See what becomes of it: deed command show %s --follow\n", s.ID)
		}
	})
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
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, usageError{errors.New("the body is empty: leave the argument out, or give JSON")}
	}
	if !json.Valid(b) {
		return nil, usageError{fmt.Errorf("the body is not JSON: %s", bytes.TrimSpace(b[:min(len(b), 100)]))}
	}
	return b, nil
}
