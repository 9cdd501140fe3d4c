package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/internal/groupcommit"
)

// maxRows bounds a transaction. More would make those in it wait longer than
// sharing it is worth.
const maxRows = 4096

// maxBytes bounds what a transaction carries, beyond its first request.
const maxBytes = 16 << 20

// A request is something to be written.
type request struct {
	groupcommit.Request
	rows    int
	bytes   int
	refused error // a conflict, for one: the others of the transaction do not mind
}

func (r *request) asked() *request { return r }

// asking is an appending or a writing.
type asking interface {
	groupcommit.Member
	asked() *request
}

// serve is a goroutine that takes whatever waits in a queue, writes it in one
// transaction, and hands out verdicts.
func serve[R asking](s *Store, queue *groupcommit.Queue[R], write func([]R) error) {
	for {
		select {
		case r := <-queue.Next():
			verdicts(queue.Gather(r, full[R]()), write)
		case <-s.ctx.Done():
			return
		}
	}
}

// full reports whether those it was asked about fill a transaction.
func full[R asking]() func(R) bool {
	rows, bytes := 0, 0
	return func(r R) bool {
		rows += r.asked().rows
		bytes += r.asked().bytes
		return rows >= maxRows || bytes >= maxBytes
	}
}

// verdicts writes a batch. If the server refuses something in it, each request
// is tried alone, so that one that cannot be written takes no others with it.
func verdicts[R asking](batch []R, write func([]R) error) {
	err := awake(func() error { return write(batch) })
	_, refused := errors.AsType[*pgconn.PgError](err)
	refused = refused && errors.Is(err, store.ErrUnavailable) && !serverDown(err) && !stood(err)
	if _, statement := errors.AsType[*store.StatementError](err); len(batch) > 1 && (refused || statement) {
		for _, r := range batch {
			verdicts([]R{r}, write)
		}
		return
	}
	for _, r := range batch {
		r.asked().Answer(cmp.Or(err, r.asked().refused))
	}
}

// awake tries again what stood still for too long in the middle, because this
// process was held up: the server has taken it back, and it is awake now. One that
// is held up every time must not keep others waiting for ever.
func awake(write func() error) error {
	const tries = 3
	for range tries - 1 {
		if err := write(); !stood(err) {
			return err
		}
	}
	err := write()
	if stood(err) {
		err = fmt.Errorf("%w: postgres: the server took a transaction back %d times because this process, or the way to the server, stood still in it: give them more room (%w)", store.ErrUnavailable, tries, err)
	}
	return err
}

// stood reports whether the server took a transaction back that stood still.
func stood(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == stoodStill
}

// serverDown reports whether the server said that it serves nobody: it is
// shutting down, starting, or has no connections or no space left; or that it
// waited too long for a lock. Asking again at once would not help.
func serverDown(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (strings.HasPrefix(pg.Code, "57") || strings.HasPrefix(pg.Code, "53") || strings.HasPrefix(pg.Code, "08") || pg.Code == lockNotAvailable)
}

const (
	lockNotAvailable  = "55P03"
	uniqueViolation   = "23505"
	divisionByZero    = "22012"
	deadlockDetected  = "40P01"
	serializationFail = "40001"
	stoodStill        = "25P03"
)

// A transaction is two trips to the server: one that begins and looks, one
// that writes and commits. What happens in between is decided here.
type transaction struct {
	s     *Store
	conn  *pgxpool.Conn
	bytes int // it is going to carry about so many
	begun bool
}

// carried adds up what a batch carries.
func carried[R asking](batch []R) (bytes int) {
	for _, r := range batch {
		bytes += r.asked().bytes
	}
	return bytes
}

// transact runs f, which is going to send so many bytes, in a transaction of a
// connection of its own.
func (s *Store) transact(bytes int, f func(ctx context.Context, t *transaction) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), s.opts.Timeout)
	defer cancel()
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return s.failure(err)
	}
	defer conn.Release()
	t := &transaction{s: s, conn: conn, bytes: bytes}
	err = f(ctx, t)
	if t.begun {
		t.rollback()
	}
	return s.failure(err)
}

// look begins, and asks the questions of a batch in the same trip.
func (t *transaction) look(ctx context.Context, ask func(b *pgx.Batch)) error {
	var b pgx.Batch
	t.s.begin(&b, t.bytes)
	ask(&b)
	t.begun = true
	return t.conn.SendBatch(ctx, &b).Close()
}

// begin queues the beginning of a transaction. A process that is frozen or cut
// off in the middle of one must not hold its locks for longer than it would
// itself have waited.
func (s *Store) begin(b *pgx.Batch, bytes int) {
	b.Queue("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
	switch { // else they are settings of the connection, see prepare
	case s.pooled:
		b.Queue("SELECT set_config('lock_timeout', $1, true), set_config('idle_in_transaction_session_timeout', $2, true), set_config('synchronous_commit', $3, true)",
			millis(s.opts.LockTimeout), millis(s.patience(bytes)), s.commit)
	case bytes > buffered:
		b.Queue("SELECT set_config('idle_in_transaction_session_timeout', $1, true)", millis(s.patience(bytes)))
	}
}

// buffered is how much passes to the server at once, without waiting for it to
// read.
const buffered = 256 << 10

// pace is what a connection is expected to carry, in bytes a second.
const pace = 1 << 20

// patience is how long a transaction may stand still in the middle. It takes
// two trips, a few milliseconds apart; a process that was frozen between them
// must not hold its locks until it wakes up. For the server it stands still
// until the first statement of the second trip has arrived, so one that
// carries much gets the time for that.
func (s *Store) patience(bytes int) time.Duration {
	return min(s.opts.LockTimeout, 2*time.Second) + time.Duration(bytes/buffered)*(time.Second*buffered/pace)
}

// millis writes a duration as the server reads it; it takes 0 for no limit.
func millis(d time.Duration) string { return fmt.Sprintf("%dms", max(d.Milliseconds(), 1)) }

// commit writes and commits in one trip. If the connection breaks in it, nobody
// knows what became of the transaction.
func (t *transaction) commit(ctx context.Context, write func(b *pgx.Batch)) error {
	var b pgx.Batch
	write(&b)
	b.Queue("COMMIT")
	t.begun = true
	err := t.conn.SendBatch(ctx, &b).Close()
	if err == nil {
		t.begun = false
		return nil
	}
	if lost(err) {
		err = fmt.Errorf("%w: postgres: %w", store.ErrUnknown, err)
	}
	return err
}

// once does a whole transaction in one trip: what is sent together is committed
// together, unless a pooler wants it said. If the connection breaks in it,
// nobody knows what became of it.
func (t *transaction) once(ctx context.Context, write func(b *pgx.Batch)) error {
	if t.s.pooled {
		return t.commit(ctx, func(b *pgx.Batch) { t.s.begin(b, t.bytes); write(b) })
	}
	var b pgx.Batch
	write(&b)
	err := t.conn.SendBatch(ctx, &b).Close()
	if err != nil && lost(err) {
		err = fmt.Errorf("%w: postgres: %w", store.ErrUnknown, err)
	}
	return err
}

// lost reports whether an error in a commit leaves open what became of it: the
// connection broke, or the server or a pooler ended it. If a statement failed,
// the server has taken the transaction back; likewise if it waited in vain for
// the first of the second trip.
func lost(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return !pgconn.SafeToRetry(err) // safe: nothing was sent
	}
	if stood(pg) {
		return false
	}
	return pg.SeverityUnlocalized != "ERROR" || strings.HasPrefix(pg.Code, "08")
}

// rollback takes the transaction back, or gives the connection up.
func (t *transaction) rollback() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.s.ctx), 5*time.Second)
	defer cancel()
	if _, err := t.conn.Exec(ctx, "ROLLBACK"); err != nil {
		t.conn.Conn().Close(ctx) // it says why itself, if anybody asks
	}
}
