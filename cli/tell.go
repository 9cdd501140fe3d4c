package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/broker"
	"github.com/deed-dev/deed/internal/broker/kafka"
	"github.com/deed-dev/deed/internal/broker/nats"
	"github.com/deed-dev/deed/internal/broker/rabbitmq"
	"github.com/deed-dev/deed/internal/notices"
	"github.com/deed-dev/deed/internal/sinks"
	"github.com/deed-dev/deed/internal/webhook"
)

// telling is whom a server tells what becomes of commands.
type telling struct {
	dir, webhook, from string
	hosts              []string
	any                bool
	answers            string // the folder for answers of queries

	webhooks []string // hosts within that webhooks may be at
	brokers  []string // hosts that brokers may be at
	origin   string   // as which receivers of webhooks are asked whether they consent
	mailers  []string // mail servers that subscriptions may use
	files    string   // the folder for files of subscriptions
}

func (t *telling) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&t.dir, "error-dir", "", "write what goes wrong with commands to files in this folder, one for each command")
	f.StringVar(&t.webhook, "error-webhook", "", "post what goes wrong with commands to this address, once for each command")
	f.StringVar(&t.from, "errors-from", "beginning", "where --error-dir and --error-webhook begin when they are first used: beginning, or now")
	f.StringSliceVar(&t.hosts, "callback-hosts", nil, "hosts that senders of commands may have called back, as HOST or HOST:PORT; they may be anywhere, this machine included")
	f.BoolVar(&t.any, "callback-any", false, "senders of commands may have any host on the public internet called back")
	f.StringSliceVar(&t.webhooks, "webhook-hosts", nil, "hosts that webhooks may be delivered to though they are not on the public internet, as HOST or HOST:PORT")
	f.StringSliceVar(&t.brokers, "broker-hosts", nil, "hosts of message brokers that may be delivered to, as HOST, HOST:PORT, *.DOMAIN or *; all of them are named, also those that a broker names itself")
	f.StringVar(&t.origin, "webhook-origin", "", "name as which receivers of webhooks are asked whether they consent (default: the name of this machine)")
	f.StringSliceVar(&t.mailers, "smtp-hosts", nil, "mail servers that subscriptions may send mails by, as HOST or HOST:PORT")
	f.StringVar(&t.files, "file-dir", "", "public events may be delivered to files in this folder")
	f.StringVar(&t.answers, "answer-dir", "", "answers of queries may be delivered to files in this folder")
}

// targets are the kinds of places that subscriptions may deliver to.
func (t *telling) targets() map[string]deed.TargetKind {
	origin := t.origin
	if origin == "" {
		var err error
		if origin, err = os.Hostname(); err != nil {
			origin = "deed"
		}
	}
	brokers := broker.NewHosts(t.brokers)
	return map[string]deed.TargetKind{
		"webhook":  webhook.New(sinks.NewHosts(t.webhooks, true), origin),
		"nats":     nats.New(brokers),
		"rabbitmq": rabbitmq.New(brokers),
		"kafka":    kafka.New(brokers),
		"smtp":     notices.NewMails(t.mailers),
		"file":     notices.NewFiles(t.files),
	}
}

// An allowance says whom callers may have told what; nil = nobody.
type allowance struct {
	callbacks  func(deed.Callback) error
	deliveries func(place string) error
}

// domain is what does the telling, and whom it may tell.
func (t *telling) domain() (d deed.Domain, allowed allowance, err error) {
	d.Name = "telling"
	if t.from != "" && t.from != "beginning" && t.from != "now" { // "" if the program does not serve
		return d, allowed, usageError{fmt.Errorf("--errors-from is beginning or now, not %q", t.from)}
	}
	start := sinks.Start(t.from == "now")
	if t.dir != "" {
		h, err := sinks.Files(t.dir, start)
		if err != nil {
			return d, allowed, fmt.Errorf("--error-dir: %w", err)
		}
		d.Parts = append(d.Parts, h)
	}
	if t.webhook != "" {
		h, err := sinks.Webhook(t.webhook, start)
		if err != nil {
			return d, allowed, usageError{fmt.Errorf("--error-webhook: %w", err)}
		}
		d.Parts = append(d.Parts, h)
	}
	var hosts *sinks.Hosts
	if len(t.hosts) > 0 || t.any {
		hosts = sinks.NewHosts(t.hosts, t.any)
		d.Parts = append(d.Parts, sinks.Callbacks(hosts)...)
		allowed.callbacks = hosts.Allow
	}
	if hosts != nil || t.answers != "" {
		answers, err := sinks.NewDeliveries(hosts, t.answers)
		if err != nil {
			return d, allowed, fmt.Errorf("--answer-dir: %w", err)
		}
		d.Parts = append(d.Parts, answers.Parts()...)
		allowed.deliveries = answers.Allow
	}
	return d, allowed, nil
}
