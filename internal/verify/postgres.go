package verify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/deed-dev/deed/store"
)

// A Database is where an installation keeps its events in PostgreSQL. An
// installation that has one can be held up at any step by what the suite puts
// into the database.
type Database struct {
	DSN    string // as libpq understands it
	Schema string
	Events string // the table that events are inserted into, with a column data
}

// InPostgres is what installations in PostgreSQL have.
type InPostgres interface {
	Installation
	Database() Database
}

// Postgres is what only stores in PostgreSQL have to show: the interleavings in
// which those with sequences or transaction ids lose events or stand still.
func Postgres() []Check {
	return []Check{
		{Name: "postgres/late-commit", Why: "who began first may commit last: readers must not have passed its place", Run: inDatabase(lateCommit)},
		{Name: "postgres/rolled-back-gap", Why: "what is taken back leaves nothing that readers wait for or stumble over", Run: inDatabase(rolledBack)},
		{Name: "postgres/idle-in-transaction", Why: "a session that somebody forgot must not stop readers, or make them pass over anything", Run: inDatabase(idleSession)},
		{Name: "postgres/held-head", Why: "who has to wait for a session that does nothing says which one it is", Run: inDatabase(heldHead)},
		{Name: "postgres/dump-and-restore", Why: "a backup that was never restored is none", Run: inDatabase(dumpAndRestore)},
	}
}

// stageTime bounds a check in a database.
const stageTime = time.Minute

// A stage is an installation with sessions that get in its way.
type stage struct {
	Database
	in     InPostgres
	stores [2]store.Store // each stands for a process
	lock   int32          // the class of the advisory locks that hold up inserts
	look   *pgx.Conn
}

// inDatabase runs a check on a stage.
func inDatabase(f func(ctx context.Context, st *stage) error) func(context.Context, Place) error {
	return func(ctx context.Context, p Place) error {
		return with(ctx, p, func(in Installation) (err error) {
			at, ok := in.(InPostgres)
			if !ok {
				return DoesNotApply("this is no PostgreSQL")
			}
			ctx, cancel := context.WithTimeout(ctx, stageTime)
			defer cancel()
			st := &stage{Database: at.Database(), in: at, lock: rand.Int32()}
			defer func() { err = errors.Join(err, st.leave(ctx)) }()
			if err := st.enter(ctx); err != nil {
				return err
			}
			return f(ctx, st)
		})
	}
}

func (st *stage) enter(ctx context.Context) (err error) {
	for i := range st.stores {
		if st.stores[i], err = st.in.Open(ctx, nil); err != nil {
			return err
		}
	}
	st.look, err = pgx.Connect(ctx, st.DSN)
	return err
}

func (st *stage) leave(ctx context.Context) error {
	var errs []error
	for i, s := range st.stores {
		if s != nil {
			errs = append(errs, s.Close())
			st.stores[i] = nil
		}
	}
	if st.look != nil {
		st.look.Close(context.WithoutCancel(ctx)) // it has changed nothing
	}
	return errors.Join(errs...)
}

// trap makes inserts of events with the data {"hold":N} wait for the advisory
// lock N, and those of {"refuse":N} fail.
func (st *stage) trap(ctx context.Context) error {
	_, err := st.look.Exec(ctx, fmt.Sprintf(`CREATE FUNCTION %[1]s.trap() RETURNS trigger LANGUAGE plpgsql AS $$
		DECLARE d json := convert_from(NEW.data, 'UTF8')::json;
		BEGIN
			IF d->>'refuse' IS NOT NULL THEN RAISE EXCEPTION 'refused by the suite'; END IF;
			IF d->>'hold' IS NOT NULL THEN PERFORM pg_advisory_xact_lock_shared(%[3]d, (d->>'hold')::int); END IF;
			RETURN NEW;
		END $$;
		CREATE TRIGGER trap BEFORE INSERT ON %[1]s.%[2]s FOR EACH ROW EXECUTE FUNCTION %[1]s.trap()`,
		st.Schema, st.Events, st.lock), pgx.QueryExecModeSimpleProtocol)
	return err
}

// session begins a transaction with some statements and leaves it open until the
// function it returns is called.
func (st *stage) session(ctx context.Context, statements ...string) (pid uint32, end func(), err error) {
	c, err := pgx.Connect(ctx, st.DSN)
	if err != nil {
		return 0, nil, err
	}
	end = func() { c.Close(context.WithoutCancel(ctx)) } // which rolls back
	for _, sql := range append([]string{"BEGIN"}, statements...) {
		if _, err := c.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			end()
			return 0, nil, err
		}
	}
	err = c.QueryRow(ctx, "SELECT pg_backend_pid()", pgx.QueryExecModeSimpleProtocol).Scan(&pid)
	return pid, end, err
}

// hold holds up inserts of {"hold":n}.
func (st *stage) hold(ctx context.Context, n int) (release func(), err error) {
	_, release, err = st.session(ctx, fmt.Sprintf("SELECT pg_advisory_xact_lock(%d, %d)", st.lock, n))
	return release, err
}

// held waits until somebody waits for lock n, or for somebody who waits for one
// of these locks; or for a while, if it comes to neither.
func (st *stage) held(ctx context.Context, n int) error {
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		var so bool
		err := st.look.QueryRow(ctx, `WITH held AS (SELECT pid, objid FROM pg_locks WHERE locktype = 'advisory' AND classid = $1 AND NOT granted)
			SELECT EXISTS (SELECT FROM held WHERE objid = $2)
				OR $2 > 1 AND EXISTS (SELECT FROM pg_stat_activity a, held WHERE held.pid = ANY (pg_blocking_pids(a.pid)))`,
			uint32(st.lock), uint32(n)).Scan(&so)
		if err != nil || so {
			return err
		}
	}
	return nil
}

// A follower is somebody who reads the log with a cursor.
type follower struct {
	log    store.Log
	cursor store.Cursor
	seen   map[store.ID]bool
}

func (f *follower) readOn(ctx context.Context) error {
	for rec, err := range f.log.ReadAll(ctx, f.cursor, store.Filter{}) {
		if err != nil {
			return err
		}
		if f.seen[rec.ID] {
			return fmt.Errorf("a reader saw %s@%d twice", rec.Stream, rec.Version)
		}
		f.seen[rec.ID] = true
		f.cursor = f.cursor.Advance(rec.Position)
	}
	return nil
}

// sees reads on until the events were seen, for some seconds.
func (f *follower) sees(ctx context.Context, events ...store.Event) error {
	const patience = 5 * time.Second
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if err := f.readOn(ctx); err != nil {
			return err
		}
		missing := 0
		for _, e := range events {
			if !f.seen[e.ID] {
				missing++
			}
		}
		if missing == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("a reader who has read up to %s has not seen %d of %d acknowledged events after %v", f.cursor, missing, len(events), patience)
		}
	}
}

// followers are one of each process.
func (st *stage) followers() (out []*follower) {
	for _, s := range st.stores {
		out = append(out, &follower{log: s, seen: map[store.ID]bool{}})
	}
	return out
}

// told makes an event with data.
func told(data string) store.Event {
	e := event(0)
	e.Data = []byte(data)
	return e
}

// put appends events to a stream.
func put(ctx context.Context, s store.Store, stream string, events ...store.Event) error {
	_, err := s.Append(ctx, store.Write{Stream: stream, Expect: store.Any, Events: events})
	return err
}

// lateCommit has one process begin, another begin after it, and both commit
// while readers read in between.
func lateCommit(ctx context.Context, st *stage) error {
	if err := errors.Join(put(ctx, st.stores[0], "seed/0", told(`{}`)), st.trap(ctx)); err != nil {
		return err
	}
	var release [2]func()
	var done [2]chan error
	var events [2][]store.Event
	events[0], events[1] = []store.Event{told(`{"hold":1}`), told(`{}`)}, []store.Event{told(`{"hold":2}`)}
	for i := range release {
		var err error
		if release[i], err = st.hold(ctx, i+1); err != nil {
			return err
		}
		defer release[i]()
	}
	for i := range done {
		done[i] = make(chan error, 1)
		go func() { done[i] <- put(ctx, st.stores[i], fmt.Sprintf("late/%d", i), events[i]...) }()
		if err := st.held(ctx, i+1); err != nil {
			return err
		}
	}
	readers := st.followers()
	for i := range release {
		release[i]()
		if err := <-done[i]; err != nil {
			return fmt.Errorf("append %d: %w", i+1, err)
		}
		for _, r := range readers {
			if err := r.readOn(ctx); err != nil {
				return err
			}
		}
	}
	for _, r := range readers {
		if err := r.sees(ctx, append(events[0], events[1]...)...); err != nil {
			return err
		}
	}
	return contiguous(ctx, st.stores[0])
}

// rolledBack has transactions fail after they have taken their places.
func rolledBack(ctx context.Context, st *stage) error {
	if err := errors.Join(put(ctx, st.stores[0], "seed/0", told(`{}`)), st.trap(ctx)); err != nil {
		return err
	}
	readers := st.followers()
	for n := range 10 {
		bad := []store.Event{told(`{}`), told(`{"refuse":1}`)}
		if err := put(ctx, st.stores[n%2], "gap/0", bad...); err == nil {
			return errors.New("an append that the database refused was acknowledged")
		}
		good := told(`{}`)
		if err := put(ctx, st.stores[(n+n/2)%2], "gap/0", good); err != nil {
			return fmt.Errorf("after an append that was refused: %w", err)
		}
		for _, r := range readers {
			if err := r.sees(ctx, good); err != nil {
				return err
			}
			if r.seen[bad[0].ID] || r.seen[bad[1].ID] {
				return errors.New("something of an append that was refused is in the log")
			}
		}
	}
	return contiguous(ctx, st.stores[0])
}

// idleSession leaves a session open that has read everything, has a transaction
// id, and does nothing.
func idleSession(ctx context.Context, st *stage) error {
	if err := put(ctx, st.stores[0], "seed/0", told(`{}`)); err != nil {
		return err
	}
	_, end, err := st.session(ctx, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT txid_current()",
		fmt.Sprintf("SELECT count(*) FROM %s.%s", st.Schema, st.Events))
	if err != nil {
		return err
	}
	defer end()
	readers := st.followers()
	for n := range 20 {
		e := told(`{}`)
		if err := put(ctx, st.stores[n%2], "idle/0", e); err != nil {
			return fmt.Errorf("while a session is idle in its transaction: %w", err)
		}
		for _, r := range readers {
			if err := r.sees(ctx, e); err != nil {
				return fmt.Errorf("while a session is idle in its transaction: %w", err)
			}
		}
	}
	return nil
}

// heldHead leaves a session open that has locked the head of the log.
func heldHead(ctx context.Context, st *stage) error {
	s := st.stores[0]
	if err := put(ctx, s, "seed/0", told(`{}`)); err != nil {
		return err
	}
	pid, end, err := st.session(ctx, "SELECT FROM "+st.Schema+".head FOR UPDATE")
	if err != nil {
		return err
	}
	defer end()
	waits := make(chan error, 1)
	go func() { waits <- put(ctx, s, "held/0", told(`{}`)) }()
	for n, waiting := 0, true; waiting; n++ {
		select {
		case err = <-waits:
			waiting = false
		case <-time.After(100 * time.Millisecond):
			if err := readsAndWrites(ctx, s, n); err != nil {
				return fmt.Errorf("while an append waits: %w", err)
			}
		}
	}
	if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), fmt.Sprint(pid)) {
		return fmt.Errorf("an append that cannot have the head is told %w: it should be unavailable, because of process %d", err, pid)
	}
	end()
	return put(ctx, s, "held/0", told(`{}`))
}

// readsAndWrites does what needs no place in the log.
func readsAndWrites(ctx context.Context, s store.Store, n int) error {
	f := &follower{log: s, seen: map[store.ID]bool{}}
	_, err := s.Head(ctx)
	return errors.Join(err, f.readOn(ctx), s.Write(ctx, store.Change{Coll: "held", Key: fmt.Sprint(n), Data: []byte(`{}`)}))
}
