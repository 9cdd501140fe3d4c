package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
)

func (a *app) senders() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sender",
		Short: "Look after senders: who may send messages to a reception, and how they show it",
		Example: `  deed sender list payments
  deed sender put payments bank
  deed sender put payments stripe --format json --proof stripe --secret whsec_... --id /id
  deed sender put payments grid --format eventgrid --proof secret --query code --source /subscriptions/...
  deed sender rotate payments bank --overlap 24h
  deed sender test payments stripe @event.json`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return usageError{errors.New("sender needs one of list, show, put, delete, rotate, test")}
		},
	}
	cmd.AddCommand(a.listSenders(), a.showSender(), a.putSender(), a.deleteSender(), a.rotateSender(), a.testSender())
	return cmd
}

// ofSender is a command about one sender.
func (a *app) ofSender(verb, short string, do func(context.Context, *client.Client, string) error) *cobra.Command {
	return &cobra.Command{
		Use: verb + " RECEPTION NAME", Short: short, Args: args(cobra.ExactArgs(2)), Example: "  deed sender " + verb + " payments bank",
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.with(cmd.Context(), func(c *client.Client) error { return do(cmd.Context(), c, senderPath(given[0], given[1])) })
		},
	}
}

func senderPath(reception, name string) string {
	return client.Path(nil, "v1", "receptions", reception, "senders", name)
}

func (a *app) printSenders(list []httpapi.Sender) {
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "RECEPTION\tNAME\tFORMAT\tPROOF\tSOURCES\tCHANGED\tADDRESS\tDOC")
	for _, s := range list {
		sources := strings.Join(s.Sources, ",")
		if sources == "" {
			sources = "any"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Reception, s.Name, s.Format, s.Proof, sources, s.Changed.Format("2006-01-02 15:04:05"), senderPath(s.Reception, s.Name), s.Doc)
	}
	w.Flush()
}

func (a *app) listSenders() *cobra.Command {
	return &cobra.Command{
		Use: "list [RECEPTION]", Short: "List senders, without their secrets", Args: args(cobra.MaximumNArgs(1)), Example: "  deed sender list payments",
		RunE: func(cmd *cobra.Command, given []string) error {
			path := "/v1/senders"
			if len(given) == 1 {
				path = client.Path(nil, "v1", "receptions", given[0], "senders")
			}
			return a.with(cmd.Context(), func(c *client.Client) error {
				var list httpapi.SenderList
				if _, err := c.Do(cmd.Context(), http.MethodGet, path, nil, nil, &list); err != nil {
					return err
				}
				return a.show(list, func() { a.printSenders(list.Senders) })
			})
		},
	}
}

func (a *app) showSender() *cobra.Command {
	return a.ofSender("show", "Print a sender as JSON, without its secret", func(ctx context.Context, c *client.Client, path string) error {
		var s httpapi.Sender
		if _, err := c.Do(ctx, http.MethodGet, path, nil, nil, &s); err != nil {
			return err
		}
		return a.show(s, func() { a.printJSON(s) })
	})
}

func (a *app) putSender() *cobra.Command {
	var s httpapi.SenderSettings
	var id, typ, subject string
	cmd := a.ofSender("put", "Make a sender, or change one", func(ctx context.Context, c *client.Client, path string) error {
		s.ID, s.Type, s.Subject = httpapi.Locator(id), httpapi.Locator(typ), httpapi.Locator(subject)
		var made httpapi.MadeSender
		if _, err := c.Do(ctx, http.MethodPut, path, nil, s, &made); err != nil {
			return err
		}
		return a.show(made, func() {
			a.printSenders([]httpapi.Sender{made.Sender})
			for name, secret := range made.Once {
				a.print("%s: %s\n", name, secret)
				a.say("Keep this: it is never shown again. deed sender rotate makes another.\n")
			}
		})
	})
	cmd.Long = `Make a sender, or change one: it is what the flags say, and nothing else but its
secret, which stays if none is given. Its messages go to the address that is printed,
under the address of the server. A secret that is made is printed once.

--format is cloudevents (default), eventgrid, or json: then --id, --type and --subject
say where these are, as header:NAME, a JSON pointer like /data/id, or text:...
--proof is signature (Standard Webhooks; default), hub (X-Hub-Signature-256, as of GitHub),
stripe, secret (in --header or --query), or none: anybody may send.`
	cmd.Example = `  deed sender put payments bank
  deed sender put payments shop --public-key whpk_...
  deed sender put payments github --format json --proof hub --secret 0123456789abcdef --id header:X-GitHub-Delivery --type header:X-GitHub-Event
  deed sender put payments grid --format eventgrid --proof secret --query code --origin eventgrid.azure.net`
	f := cmd.Flags()
	f.StringVar(&s.Doc, "doc", "", "one sentence for people")
	f.StringVar(&s.Format, "format", "", "cloudevents, eventgrid or json")
	f.StringVar(&s.Proof, "proof", "", "signature, hub, stripe, secret or none")
	f.StringVar(&s.Secret, "secret", "", "the secret, if the sender has one already")
	f.StringSliceVar(&s.PublicKeys, "public-key", nil, "key of a sender that signs with ed25519: whpk_...; may be repeated")
	f.StringVar(&s.Header, "header", "", "header that has the secret (default Authorization, as a bearer)")
	f.StringVar(&s.Query, "query", "", "parameter of the address that has the secret instead")
	f.StringSliceVar(&s.Sources, "source", nil, "source, or topic of Event Grid, that it may speak for; may be repeated (default any)")
	f.StringSliceVar(&s.Origins, "origin", nil, "origin that is granted a CloudEvents handshake; may be repeated; * = any")
	f.IntVar(&s.Rate, "rate", 0, "messages a minute that the handshake asks it to keep to (default as many as it likes)")
	f.StringVar(&id, "id", "", "where the id is (default header:webhook-id)")
	f.StringVar(&typ, "type", "", "where the type is (default /type)")
	f.StringVar(&subject, "subject", "", "where the subject is (default nowhere)")
	return cmd
}

func (a *app) deleteSender() *cobra.Command {
	return a.ofSender("delete", "End a sender: nothing it sends is taken any more", func(ctx context.Context, c *client.Client, path string) error {
		if _, err := c.Do(ctx, http.MethodDelete, path, nil, nil, nil); err != nil {
			return err
		}
		return a.show(map[string]string{"deleted": path}, func() { a.print("deleted\n") })
	})
}

func (a *app) rotateSender() *cobra.Command {
	var secret string
	var overlap time.Duration
	cmd := a.ofSender("rotate", "Give a sender another secret; the former one is good for a while beside it", func(ctx context.Context, c *client.Client, path string) error {
		var out httpapi.Secrets
		body := map[string]string{"secret": secret, "overlap": overlap.String()}
		if _, err := c.Do(ctx, http.MethodPost, path+"/rotate", nil, body, &out); err != nil {
			return err
		}
		return a.show(out, func() {
			for name, secret := range out.Once {
				a.print("%s: %s\n", name, secret)
			}
			a.print("the former secret is good for %v\n", overlap)
		})
	})
	cmd.Example = "  deed sender rotate payments bank\n  deed sender rotate payments bank --overlap 0s    # the former one has leaked"
	cmd.Flags().StringVar(&secret, "secret", "", "the secret, if the sender has made it (default: a new one is made)")
	cmd.Flags().DurationVar(&overlap, "overlap", 24*time.Hour, "for how long the former secret is good, too")
	return cmd
}

func (a *app) testSender() *cobra.Command {
	var given []string
	cmd := &cobra.Command{
		Use: "test RECEPTION NAME BODY", Short: "Say what would come of a request of a sender: which messages, which commands", Args: args(cobra.ExactArgs(3)),
		Long: `Say what would come of a request like those of a sender: which messages are in it, and
which commands follow from each. Nothing is stored, and nothing is asked. The body is an
argument, @FILE, or - for standard input.`,
		Example: `  deed sender test payments bank '{"specversion":"1.0","id":"1","source":"/bank","type":"payment.settled.v1","data":{}}'
  deed sender test payments github @push.json --with 'X-GitHub-Event: push' --with 'X-GitHub-Delivery: 1'`,
		RunE: func(cmd *cobra.Command, names []string) error {
			body, err := a.body(names[2])
			if err != nil {
				return err
			}
			headers, err := headersOf(given)
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), func(c *client.Client) error {
				var tried httpapi.TriedMessages
				if _, err := c.Do(cmd.Context(), http.MethodPost, senderPath(names[0], names[1])+"/test", headers, body, &tried); err != nil {
					return err
				}
				return a.show(tried, func() { a.printTried(tried.Messages) })
			})
		},
	}
	cmd.Flags().StringArrayVar(&given, "with", nil, `header of the request, for example "Content-Type: application/json"; may be repeated (default application/cloudevents+json)`)
	return cmd
}

// headersOf reads headers as "Name: value".
func headersOf(given []string) (map[string]string, error) {
	headers := map[string]string{"Content-Type": cloudEventType}
	for _, h := range given {
		name, v, ok := strings.Cut(h, ":")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return nil, usageError{fmt.Errorf(`--with %q is no header like "Content-Type: application/json"`, h)}
		}
		headers[http.CanonicalHeaderKey(name)] = strings.TrimSpace(v)
	}
	return headers, nil
}

func (a *app) printTried(list []httpapi.TriedMessage) {
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tSOURCE\tTYPE\tSUBJECT\tCOMMANDS")
	for _, m := range list {
		what := strings.Join(m.Commands, ", ")
		switch {
		case m.Error != "":
			what = "would be a dead letter: " + m.Error
		case what == "":
			what = "none"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", m.ID, m.Source, m.Type, m.Subject, what)
	}
	w.Flush()
}
