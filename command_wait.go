package deed

import (
	"slices"
	"sync"
)

// waiters are those who wait for stored commands in this process. They are told
// when this process has done something about a command; what other processes
// do, they have to find out for themselves.
type waiters struct {
	mu   sync.Mutex
	byID map[string][]chan struct{}

	// recent has commands that were received or settled here lately: their last
	// status, or none as long as nothing is known to have become of them. It
	// spares most of those who wait a look at the store.
	recent recent[CommandStatus]
}

const recentCommands = 4096

func newWaiters() *waiters {
	return &waiters{byID: map[string][]chan struct{}{}, recent: newRecent[CommandStatus](recentCommands, nil)}
}

// enter returns a channel that gets something when there may be news.
func (w *waiters) enter(id string) chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	ch := make(chan struct{}, 1)
	w.byID[id] = append(w.byID[id], ch)
	return ch
}

func (w *waiters) leave(id string, ch chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	left := slices.DeleteFunc(w.byID[id], func(c chan struct{}) bool { return c == ch })
	if w.byID[id] = left; len(left) == 0 {
		delete(w.byID, id)
	}
}

// received notes that a command has only just been stored.
func (w *waiters) received(id string) { w.recent.Add(id, CommandStatus{}) }

// final returns the last status of a command, or the zero status if it is known
// that there is no use in looking for one yet.
func (w *waiters) final(id string) (CommandStatus, bool) { return w.recent.Get(id) }

func (w *waiters) forget(id string) { w.recent.Remove(id) }

// settled tells those who wait that something has become of a command. Only a
// state that lasts for ever is remembered.
func (w *waiters) settled(s CommandStatus) {
	if s.State.Over() {
		w.recent.Add(s.ID, s)
	} else {
		w.recent.Remove(s.ID)
	}
	w.tell(s.ID)
}

// tell pokes those who wait.
func (w *waiters) tell(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ch := range w.byID[id] {
		poke(ch)
	}
}
