package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
	"github.com/deed-dev/deed/internal/inbound"
)

// cloudEventType is the type of one CloudEvent as JSON; several are a batch.
const (
	cloudEventType  = "application/cloudevents+json"
	cloudEventBatch = "application/cloudevents-batch+json"
)

func (a *app) receptions() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reception",
		Short: "Look at receptions, which make commands of messages of others, and send them messages",
		Example: `  deed reception list
  deed reception send payments @event.json
  deed dead-letters list --follower payments`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return usageError{errors.New("reception needs one of list, send")}
		},
	}
	cmd.AddCommand(a.listReceptions(), a.sendMessages())
	return cmd
}

func (a *app) listReceptions() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List receptions, and the types of messages they know", Args: args(cobra.NoArgs), Example: "  deed reception list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(c *client.Client) error {
				var list httpapi.ReceptionList
				if _, err := c.Do(cmd.Context(), http.MethodGet, "/v1/receptions", nil, nil, &list); err != nil {
					return err
				}
				return a.show(list, func() {
					w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
					fmt.Fprintln(w, "RECEPTION\tTYPES\tDOC")
					for _, r := range list.Receptions {
						fmt.Fprintf(w, "%s\t%s\t%s\n", r.Name, strings.Join(r.Types, ", "), r.Doc)
					}
					w.Flush()
				})
			})
		},
	}
}

func (a *app) sendMessages() *cobra.Command {
	return &cobra.Command{
		Use: "send RECEPTION BODY", Short: "Send a CloudEvent, or a JSON list of some, to a reception", Args: args(cobra.ExactArgs(2)),
		Long: `Send a CloudEvent as JSON, or a JSON list of some, to a reception: an argument, @FILE, or
- for standard input. One that was sent before, under the same source and id, is passed over.`,
		Example: `  deed reception send payments '{"specversion":"1.0","id":"1","source":"/desk","type":"payment.settled.v1","data":{"order":"o-17"}}'
  deed reception send payments @events.json`,
		RunE: func(cmd *cobra.Command, given []string) error {
			body, err := a.body(given[1])
			if err != nil {
				return err
			}
			headers := map[string]string{"Content-Type": cloudEventType}
			if strings.HasPrefix(strings.TrimSpace(string(body)), "[") {
				headers["Content-Type"] = cloudEventBatch
			}
			return a.with(cmd.Context(), func(c *client.Client) error {
				var got deed.Accepted
				if _, err := c.Do(cmd.Context(), http.MethodPost, client.Path(nil, "v1", "receptions", given[0], "messages"), headers, body, &got); err != nil {
					return err
				}
				return a.show(got, func() {
					a.print("%d stored, %d repeated, %d passed over\n", got.Stored, got.Repeated, got.Passed)
				})
			})
		},
	}
}

// A declaredSender is one of a file.
type declaredSender struct {
	Reception string `json:"reception"`
	Name      string `json:"name"`
	httpapi.SenderSettings
}

// welcome makes or changes the senders that a file declares. Those that it does not
// name stay as they are.
func (a *app) welcome(ctx context.Context, rt *deed.Runtime, path string) error {
	if path == "" {
		return nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return usageError{fmt.Errorf("--senders: %w", err)}
	}
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.DisallowUnknownFields()
	var list []declaredSender
	if err := dec.Decode(&list); err != nil {
		return usageError{fmt.Errorf("--senders: %s is no list of senders: %w", path, err)}
	}
	senders := inbound.NewSenders(rt)
	for _, d := range list {
		_, once, err := senders.Put(ctx, deed.Call{Source: "file"}, d.Reception, d.Name, d.SenderSettings)
		if err != nil {
			return usageError{fmt.Errorf("--senders: %s/%s: %w", d.Reception, d.Name, err)}
		}
		for name, secret := range once {
			a.say("%s of the sender %s/%s, which is never shown again: %s\n", name, d.Reception, d.Name, secret)
		}
	}
	return nil
}
