package cli

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/deed-dev/deed/internal/client"
)

func (a *app) maps() *cobra.Command {
	var domain, instance string
	var markdown bool
	cmd := &cobra.Command{
		Use:   "map",
		Short: "Draw the program: commands, events, processes and sagas; or one of them as it stands",
		Long: `Draw what the program is made of, as a flowchart of Mermaid: commands, what they
are asked of, the events that come of them, and the processes and sagas that go
on from there. With --json it is a graph of nodes and edges.

Which event a command leads to, and which commands a process or a step sends, is
decided when the program runs. --instance draws one process or saga with how far
it has come and whom it has sent commands to.`,
		Example: `  deed map --domain orders
  deed map --instance saga/checkout/o-1
  deed map --store mem: --markdown > docs/maps.md`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if markdown && (a.json || domain+instance != "") {
				return usageError{errors.New("--markdown is of everything: leave --domain, --instance and --json out")}
			}
			q := url.Values{}
			for name, v := range map[string]string{"domain": domain, "instance": instance} {
				if v != "" {
					q.Set(name, v)
				}
			}
			switch {
			case markdown:
				q.Set("format", "markdown")
			case !a.json:
				q.Set("format", "mermaid")
			}
			return a.with(cmd.Context(), func(c *client.Client) error {
				var text json.RawMessage
				if _, err := c.Do(cmd.Context(), http.MethodGet, client.Path(q, "v1", "map"), nil, nil, &text); err != nil {
					return err
				}
				a.print("%s", text)
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&domain, "domain", "", "only this domain, with the events from elsewhere that it takes in")
	f.StringVar(&instance, "instance", "", "one process or saga, as KIND/NAME/ID")
	f.BoolVar(&markdown, "markdown", false, "a document with a drawing of each domain")
	return cmd
}
