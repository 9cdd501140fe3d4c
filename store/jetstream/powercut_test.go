package jetstream_test

import (
	"errors"
	"flag"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/deed-dev/deed/internal/natstest"
	"github.com/deed-dev/deed/internal/powercut"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/jetstream"
	"github.com/deed-dev/deed/store/storetest"
)

var powercuts = flag.Int("powercuts", 3, "power cuts under a server")

// A power cut under a single server that syncs always loses nothing that was
// acknowledged.
func TestPowerCut(t *testing.T) {
	r := newRig(t, true)
	total := 0
	for round := range *powercuts {
		acked := r.cut(t)
		if lost := r.lost(t, acked); lost > 0 {
			t.Fatalf("round %d: %d of %d acknowledged appends are lost", round, lost, len(acked))
		}
		total += len(acked)
	}
	if total < 20*min(*powercuts, 3) {
		t.Errorf("only %d appends were acknowledged: that shows nothing", total)
	}
	t.Logf("%d power cuts, %d acknowledged appends, none lost", *powercuts, total)
}

// The same with a server that syncs now and then must lose something, or the
// test above is blind. Such a server is called volatile.
func TestPowerCutIsSeen(t *testing.T) {
	r := newRig(t, false)
	for round := range 10 {
		acked := r.cut(t)
		if lost := r.lost(t, acked); lost > 0 {
			t.Logf("round %d: %d of %d acknowledged appends are lost, as they must be", round, lost, len(acked))
			return
		}
	}
	t.Error("a server that does not sync lost nothing in 10 power cuts: the test cannot see losses")
}

// A rig is a server on a disk whose power can be cut.
type rig struct {
	cluster
	disk   *powercut.Disk
	always bool // it syncs every write
	round  int
}

func newRig(t *testing.T, always bool) *rig {
	t.Helper()
	d := powercut.NewDisk(t, 512<<20)
	return &rig{disk: d, always: always, cluster: startClusterWith(t, d.Dir, 1, func(_ string, s *natstest.Settings) { s.SyncAlways = always })}
}

func (r *rig) opened(t *testing.T) *jetstream.Store {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		s, err := jetstream.Open(r.URL("app"), &jetstream.Options{Name: "cut", SyncAlways: r.always, Timeout: 10 * time.Second})
		if err == nil {
			return s
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// cut appends from four writers for a while, cuts the power, and starts the
// server again. It returns what had been acknowledged before the cut: streams
// and versions.
func (r *rig) cut(t *testing.T) map[string]uint64 {
	t.Helper()
	s := r.opened(t)
	var mu sync.Mutex
	acked, enough := map[string]uint64{}, make(chan struct{})
	var writers sync.WaitGroup
	r.round++
	for w := range 4 {
		writers.Go(func() {
			for n := uint64(0); ; n++ {
				select {
				case <-enough:
					return
				default:
				}
				own, pair := fmt.Sprintf("own/%d-%d", r.round, w), fmt.Sprintf("pair/%d-%d-%d", r.round, w, n)
				_, err := s.Append(bounded(t), store.Write{Stream: own, Expect: store.Exactly(n), Events: storetest.BenchEvents(1)},
					store.Write{Stream: pair, Expect: store.None, Events: storetest.BenchEvents(2)})
				if err != nil {
					return
				}
				mu.Lock()
				acked[own], acked[pair] = n+1, 2
				mu.Unlock()
			}
		})
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		mu.Lock()
		n := len(acked)
		mu.Unlock()
		if n > 100 {
			break
		}
	}
	mu.Lock()
	before := map[string]uint64{}
	for k, v := range acked {
		before[k] = v
	}
	mu.Unlock()
	r.disk.Cut(t)
	r.KillNode(0)
	close(enough)
	closed := s.Close()
	writers.Wait()
	if closed != nil && !errors.Is(closed, store.ErrUnavailable) {
		t.Log(closed)
	}
	r.disk.Unmount(t)
	r.disk.Mount(t)
	r.StartNode(t, 0)
	return before
}

// lost counts what was acknowledged and is not there.
func (r *rig) lost(t *testing.T, acked map[string]uint64) (lost int) {
	t.Helper()
	s := r.opened(t)
	defer s.Close()
	have := map[string]uint64{}
	for rec, err := range s.ReadAll(bounded(t), store.Start, store.Filter{}) {
		if err != nil {
			return len(acked) // the stream itself may be damaged
		}
		have[rec.Stream] = rec.Version
	}
	for stream, version := range acked {
		if have[stream] < version {
			lost++
		}
	}
	return lost
}
