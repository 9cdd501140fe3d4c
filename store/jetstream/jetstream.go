package jetstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/nats-io/nats.go"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/internal/groupcommit"
)

// Options adjust a Store. The zero Options are fine for a try; what a server
// needs to be told for more is in the package's comment.
type Options struct {
	// Name tells installations on one NATS account apart: it begins the names
	// of the JetStream streams and of their subjects. Letters, digits, "-"
	// and "_"; default "deed".
	Name string

	// Replicas is how many servers keep a copy (1, 3 or 5; default 1), Tags
	// which servers may. They count when the streams are made; later, change
	// them with the nats tool.
	Replicas int
	Tags     []string

	// SyncAlways is the operator's word that every server that keeps a copy
	// runs with sync_interval: always. It is needed where the store cannot
	// see that for itself.
	SyncAlways bool
	// System is a connection to the system account of the servers. The store
	// asks there, when it is opened, how the servers sync. It is not closed.
	System *nats.Conn

	// Limited accepts servers whose limits are below what a store promises:
	// appends, documents and batches beyond them are refused with
	// errors.ErrUnsupported.
	Limited bool

	// MustExist opens nothing that is not there.
	MustExist bool

	Now     func() time.Time // the clock; default: time.Now
	Timeout time.Duration    // how long to try until the store is unavailable; default 10 s
	Connect []nats.Option    // credentials, TLS, ...: for Open
}

const defaultName = "deed"

// withDefaults returns options without zero values.
func (o *Options) withDefaults() (Options, error) {
	var out Options
	if o != nil {
		out = *o
	}
	if out.Name == "" {
		out.Name = defaultName
	}
	for i := range len(out.Name) {
		if !plain(out.Name[i]) || len(out.Name) > 64 {
			return out, fmt.Errorf("%w: jetstream: the name %q: use letters, digits, - and _, at most 64", store.ErrInvalid, out.Name)
		}
	}
	if out.Replicas == 0 {
		out.Replicas = 1
	}
	if out.Now == nil {
		out.Now = time.Now
	}
	if out.Timeout <= 0 {
		out.Timeout = 10 * time.Second
	}
	return out, nil
}

// Streams returns the names of an installation's JetStream streams.
func (o Options) Streams() (log, docs string) {
	if o.Name == "" {
		o.Name = defaultName
	}
	s := subjects{o.Name}
	return s.log(), s.docs()
}

// A Store is a [store.Store] on JetStream. Several processes may have the
// same installation open.
type Store struct {
	nc       *nats.Conn
	own      bool // the connection is ours to close
	opts     Options
	subjects subjects
	limits   limits
	volatile string

	ctx     context.Context // ends what Close does not wait for
	cancel  context.CancelFunc
	queue   *groupcommit.Queue[*request]
	closing chan struct{} // closed by Close
	done    chan struct{} // closed when the writer has ended
	wake    *nats.Subscription
	once    sync.Once

	seen     atomic.Uint64 // positions up to here are known to be there
	seenDocs atomic.Uint64 // the same, of the documents' stream
	revs     *lru.Cache[docName, revision]
	anchor   atomic.Pointer[string] // the subject of a document that is there
	open     chan struct{}          // as many as there may be batches of documents at once

	mu    sync.Mutex
	grown chan struct{} // closed and replaced when the log may have grown
	line  *line
}

// Open connects to NATS servers (for example
// "nats://a:4222,nats://b:4222,nats://c:4222") and opens an installation,
// making its streams if they are not there.
func Open(url string, opts *Options) (*Store, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	connect := append([]nats.Option{
		nats.Name("deed " + o.Name),
		nats.MaxReconnects(-1), nats.ReconnectWait(50 * time.Millisecond), nats.ReconnectJitter(50*time.Millisecond, 50*time.Millisecond),
		nats.ReconnectBufSize(-1), // what cannot be sent now must not be sent later
		nats.SyncQueueLen(answers),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // who calls learns it; nothing is printed
	}, o.Connect...)
	nc, err := nats.Connect(url, connect...)
	if err != nil {
		return nil, fmt.Errorf("%w: jetstream: %s: %w", store.ErrUnavailable, url, err)
	}
	s, err := Use(nc, opts)
	if err != nil {
		nc.Close()
		return nil, err
	}
	s.own = true
	return s, nil
}

// Use opens an installation by a connection that there is. Close does not
// close it.
func Use(nc *nats.Conn, opts *Options) (*Store, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	revs, err := lru.New[docName, revision](cachedHeads)
	if err != nil {
		return nil, fmt.Errorf("jetstream: %w", err)
	}
	s := &Store{
		nc: nc, opts: o, subjects: subjects{o.Name}, revs: revs,
		closing: make(chan struct{}), done: make(chan struct{}),
		open: make(chan struct{}, batchesOfDocs), grown: make(chan struct{}),
	}
	s.queue = groupcommit.New[*request](s.done, errClosed)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.line = watch(nc)
	if err := s.begin(); err != nil {
		s.cancel()
		s.line.leave()
		return nil, err
	}
	go s.write()
	return s, nil
}

// begin makes what is missing, and checks that the servers are fit.
func (s *Store) begin() error {
	ctx, cancel := context.WithTimeout(s.ctx, s.opts.Timeout)
	defer cancel()
	if err := s.makeStreams(ctx); err != nil {
		return err
	}
	if err := s.probe(ctx); err != nil {
		return err
	}
	if err := s.askHowTheySync(ctx); err != nil {
		return err
	}
	if _, err := s.head(ctx); err != nil {
		return err
	}
	var err error
	s.wake, err = s.nc.Subscribe(s.subjects.wake(), func(*nats.Msg) { s.announce() })
	if err != nil {
		return fmt.Errorf("%w: jetstream: %w", store.ErrUnavailable, err)
	}
	return nil
}

// patience is how long Close waits for what is being written.
const patience = 2 * time.Second

// Close waits for what is being written, though not for servers that do not
// answer.
func (s *Store) Close() error {
	var err error
	s.once.Do(func() {
		close(s.closing)
		defer time.AfterFunc(patience, s.cancel).Stop()
		<-s.done
		s.cancel()
		if err = s.wake.Unsubscribe(); errors.Is(err, nats.ErrConnectionClosed) {
			err = nil // by the server, or by whose it is
		}
		s.line.leave()
		if s.own {
			s.nc.Close()
		}
		s.announce()
	})
	return err
}

func (s *Store) closed() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// announce wakes everybody who waits for the log to grow.
func (s *Store) announce() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.grown)
	s.grown = make(chan struct{})
}

// saw notes that a sequence is known to be there.
func saw(seen *atomic.Uint64, seq uint64) {
	for old := seen.Load(); seq > old && !seen.CompareAndSwap(old, seq); old = seen.Load() {
	}
}
