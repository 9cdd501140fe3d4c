package inbox

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Stats are numbers since the inbox was opened.
type Stats struct {
	Handled uint64 // files moved to done
	Failed  uint64 // files moved to failed
}

// Stats returns how many files this process has moved.
func (in *Inbox) Stats() Stats {
	in.count.mu.Lock()
	defer in.count.mu.Unlock()
	return in.count.Stats
}

type counter struct {
	mu     sync.Mutex
	told   Stats
	last   string // refusal
	reason string // of the last refusal
	Stats
}

func (c *counter) handled() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Handled++
}

func (c *counter) failed(name, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Failed++
	c.last, c.reason = name, reason
}

// log tells the numbers, if they are new.
func (c *counter) log(log *slog.Logger) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Stats == c.told {
		return
	}
	attrs := []any{slog.Uint64("handled", c.Handled), slog.Uint64("failed", c.Failed)}
	if c.Failed > c.told.Failed {
		attrs = append(attrs, slog.String("last", c.last), slog.String("reason", c.reason))
	}
	log.Info("inbox", attrs...)
	c.told = c.Stats
}

func (in *Inbox) report(ctx context.Context) {
	tick := time.NewTicker(in.opts.Report)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			in.count.log(in.log)
		}
	}
}

// maxNotes bounds how many names are remembered, and so told of.
const maxNotes = 1000

// notes remember what was told, so that the log has it once.
type notes struct {
	mu   sync.Mutex
	seen map[string]bool
}

// first reports whether a name is to be told of.
func (n *notes) first(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.seen[name] || len(n.seen) >= maxNotes {
		return false
	}
	if n.seen == nil {
		n.seen = map[string]bool{}
	}
	n.seen[name] = true
	return true
}
