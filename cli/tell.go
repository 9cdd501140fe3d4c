package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/sinks"
)

// telling is whom a server tells what becomes of commands.
type telling struct {
	dir, webhook, from string
	hosts              []string
	any                bool
}

func (t *telling) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&t.dir, "error-dir", "", "write what goes wrong with commands to files in this folder, one for each command")
	f.StringVar(&t.webhook, "error-webhook", "", "post what goes wrong with commands to this address, once for each command")
	f.StringVar(&t.from, "errors-from", "beginning", "where --error-dir and --error-webhook begin when they are first used: beginning, or now")
	f.StringSliceVar(&t.hosts, "callback-hosts", nil, "hosts that senders of commands may have called back, as HOST or HOST:PORT; they may be anywhere, this machine included")
	f.BoolVar(&t.any, "callback-any", false, "senders of commands may have any host on the public internet called back")
}

// domain is what does the telling; allowed says whom callers may have called
// back, nil = nobody.
func (t *telling) domain() (d deed.Domain, allowed func(deed.Callback) error, err error) {
	d.Name = "telling"
	if t.from != "" && t.from != "beginning" && t.from != "now" { // "" if the program does not serve
		return d, nil, usageError{fmt.Errorf("--errors-from is beginning or now, not %q", t.from)}
	}
	start := sinks.Start(t.from == "now")
	if t.dir != "" {
		h, err := sinks.Files(t.dir, start)
		if err != nil {
			return d, nil, fmt.Errorf("--error-dir: %w", err)
		}
		d.Parts = append(d.Parts, h)
	}
	if t.webhook != "" {
		h, err := sinks.Webhook(t.webhook, start)
		if err != nil {
			return d, nil, usageError{fmt.Errorf("--error-webhook: %w", err)}
		}
		d.Parts = append(d.Parts, h)
	}
	if len(t.hosts) == 0 && !t.any {
		return d, nil, nil
	}
	hosts := sinks.NewHosts(t.hosts, t.any)
	d.Parts = append(d.Parts, sinks.Callbacks(hosts)...)
	return d, hosts.Allow, nil
}
