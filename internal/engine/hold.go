package engine

import (
	"context"
	"time"

	"github.com/deed-dev/deed/store"
)

// standbyLook is how often a worker whose partition another node holds looks
// how far that has come, while somebody waits for it.
const standbyLook = 25 * time.Millisecond

// holds reports whether the worker's node holds its partition, and gives it up
// if another one ought to.
func (w *worker) holds(ctx context.Context) bool {
	m := w.f.members
	if m == nil {
		return true
	}
	if !w.held {
		return false
	}
	switch {
	case !m.sane():
		w.lose() // others may have taken it: it must not be given up, but taken anew
	case m.overtaken(cursorKey(w.f.Name, w.gen, w.part, w.f.Partitions), w.epoch):
		w.lose()
	case w.hasTask() || m.ought(w.f.Name, w.part) == m.self.Node:
		return true
	default:
		w.forgetRead()
		if err := w.release(ctx); err != nil {
			w.log.Debug("partition not handed over", "error", err)
		}
		w.lose()
	}
	return false
}

func (w *worker) lose() {
	w.forgetRead()
	w.handler.Reset()
	w.held = false
}

// release gives the partition up.
func (w *worker) release(ctx context.Context) error {
	w.held = false
	return w.commit(ctx, newTx(w.f.store), w.cursor)
}

// standBy looks how the holder of the partition is doing, takes its place if
// that is called for, and otherwise waits a little.
func (w *worker) standBy(ctx context.Context) error {
	m := w.f.members
	c, rev, err := w.checkpoint(ctx)
	if err != nil {
		return err
	}
	w.observe(ctx, c)
	if c.Node != "" {
		w.vacant = time.Time{}
	} else if w.vacant.IsZero() {
		w.vacant = time.Now()
	}
	// What this node holds without knowing, because an answer was lost, it has to
	// take before it can hand it over: others leave it alone.
	mine := m.ought(w.f.Name, w.part) == m.self.Node || c.Node == m.self.Node
	free := c.Node == "" || c.Node == m.self.Node || !m.alive(c.Node)
	late := !w.vacant.IsZero() && time.Since(w.vacant) > 2*m.lease // those who ought to take it do not
	if m.sane() && (free && (mine || late) || w.hasTask()) {
		return w.claim(ctx, c, rev)
	}
	wait := min(w.f.poll, m.lease/beatsPerLease)
	if w.f.waiting.Load() > 0 {
		wait = standbyLook
	}
	w.sleep(ctx, wait)
	return nil
}

// observe reports how far the holder has come.
func (w *worker) observe(ctx context.Context, c checkpoint) {
	head, err := w.f.store.Head(ctx)
	if err != nil {
		head = store.Start
	}
	w.mu.Lock()
	w.at, w.head, w.node = c.Cursor, w.head.Join(head), c.Node
	w.state, w.heartbeat, w.oldest, w.rate, w.lastError = StateStandby, time.Now(), time.Time{}, 0, ""
	w.retrying, w.waiting, w.dead, w.parkedAt = 0, 0, 0, time.Time{}
	w.mu.Unlock()
	w.f.notify()
}

// claim makes this node the holder. From then on whatever the last one commits
// is refused.
//
// A switch changes the checkpoints of what readers saw, so that nobody goes on with
// them who does not know of it; whoever takes one anew has to find out.
func (w *worker) claim(ctx context.Context, c checkpoint, rev uint64) error {
	if _, _, err := w.f.reload(ctx); err != nil {
		return err
	}
	w.f.wake()
	w.cursor, w.rev, w.past, w.epoch, w.held, w.open = c.Cursor, rev, c.Past, c.Epoch+1, true, nil
	w.vacant = time.Time{}
	if err := w.commit(ctx, newTx(w.f.store), w.cursor); err != nil {
		w.held = false
		return err
	}
	w.handler.Reset()
	w.log.Info("partition taken", "epoch", w.epoch, "from", c.Node)
	return w.load(ctx)
}

func (w *worker) hasTask() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.tasks) > 0
}
