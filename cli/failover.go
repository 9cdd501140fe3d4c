package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"github.com/deed-dev/deed/internal/verify"
)

// failovers says how servers of a cluster are taken away from a store.
type failovers struct {
	rounds        int
	kill, restart string // commands of a shell; "" = nobody kills
}

// checks are those of a cluster.
func (f failovers) checks(c cluster) []verify.Check {
	kills := f.rounds
	if f.restart == "" {
		kills = 1 // the next would take a second server away
	}
	return []verify.Check{
		verify.Failover("failover/leaders-step-down", "what was acknowledged by one server must be known to the next that leads", f.rounds,
			func(ctx context.Context, in verify.Installation, round int) (func(context.Context) error, error) {
				return nil, c.disturb(ctx, in, round, f.stepDown)
			}),
		verify.Failover("failover/servers-killed", "a server that dies takes nothing with it", kills,
			func(ctx context.Context, in verify.Installation, round int) (undo func(context.Context) error, err error) {
				if f.kill == "" {
					return nil, verify.DoesNotApply("nobody said how to kill a server: give --kill and --restart")
				}
				err = c.disturb(ctx, in, round, func(ctx context.Context, at *leading) error {
					undo, err = f.killOne(ctx, at)
					return err
				})
				return undo, err
			}),
	}
}

// leading is a stream and who leads it.
type leading struct {
	cluster
	nc       *nats.Conn
	stream   string
	server   string
	replicas int // 1 = nobody can take over
}

// disturb does something to the leader of the log, or of the documents.
func (c cluster) disturb(ctx context.Context, in verify.Installation, round int, do func(context.Context, *leading) error) error {
	nc, err := nats.Connect(c.servers, c.Connect...)
	if err != nil {
		return err
	}
	defer nc.Close()
	log, docs := in.(streams).Streams()
	at := &leading{cluster: c, nc: nc, stream: []string{log, docs}[round%2]}
	if round > 1 && rand.IntN(2) == 0 {
		at.stream = log
	}
	if err := at.whole(ctx); err != nil {
		return err
	}
	return do(ctx, at)
}

// healTime is how long a replica may take to be current again.
const healTime = time.Minute

// whole waits until a stream has a leader and all replicas are current: who
// takes a second one away proves nothing.
func (l *leading) whole(ctx context.Context) error {
	m, err := js.New(l.nc)
	if err != nil {
		return err
	}
	for end := time.Now().Add(healTime); ; time.Sleep(20 * time.Millisecond) {
		state := "no answer"
		s, err := m.Stream(ctx, l.stream)
		if err == nil {
			if state = l.look(s.CachedInfo()); state == "" {
				return nil
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(end) {
			return fmt.Errorf("the stream %s is not whole within %v: %s", l.stream, healTime, state)
		}
	}
}

// look notes who leads; it returns what is missing.
func (l *leading) look(info *js.StreamInfo) string {
	l.replicas = max(info.Config.Replicas, 1)
	if info.Cluster == nil || info.Cluster.Leader == "" {
		l.server = l.nc.ConnectedServerName()
		if l.replicas > 1 {
			return "it has no leader"
		}
		return ""
	}
	l.server = info.Cluster.Leader
	for _, r := range info.Cluster.Replicas {
		if !r.Current || r.Offline {
			return r.Name + " is behind"
		}
	}
	if len(info.Cluster.Replicas)+1 < l.replicas {
		return "a replica is missing"
	}
	return ""
}

// stepDown has a leader give up its office.
func (f failovers) stepDown(ctx context.Context, at *leading) error {
	if at.replicas < 2 {
		return verify.DoesNotApply("the streams have one replica, so no other server can take over: use a cluster, and replicas=3 in the DSN")
	}
	m, err := at.nc.RequestWithContext(ctx, "$JS.API.STREAM.LEADER.STEPDOWN."+at.stream, nil)
	if err != nil {
		return fmt.Errorf("asking %s to step down: %w", at.server, err)
	}
	var a struct {
		Success bool
		Error   *struct{ Description string }
	}
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return err
	}
	if a.Error != nil {
		return fmt.Errorf("%s does not step down: %s", at.server, a.Error.Description)
	}
	return nil
}

// killOne kills the leader, and returns how to start it again. If nobody can
// take over it is started at once: what it had acknowledged must be there.
func (f failovers) killOne(ctx context.Context, at *leading) (undo func(context.Context) error, err error) {
	if at.replicas < 2 && f.restart == "" {
		return nil, verify.DoesNotApply("the streams have one replica: without --restart nothing can go on")
	}
	if err := shell(ctx, f.kill, at.server); err != nil {
		return nil, err
	}
	if f.restart == "" {
		return nil, nil
	}
	server := at.server
	undo = func(ctx context.Context) error { return shell(ctx, f.restart, server) }
	if at.replicas < 2 {
		return nil, undo(ctx)
	}
	return undo, nil
}

// plainName is what a server's name must be to stand in a command.
var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// shell runs a command of the operator's.
func shell(ctx context.Context, command, server string) error {
	if !plainName.MatchString(server) {
		return fmt.Errorf("the server is called %q, which cannot stand in a command", server)
	}
	ctx, cancel := context.WithTimeout(ctx, healTime)
	defer cancel()
	command = strings.ReplaceAll(command, "{server}", server)
	out, err := exec.CommandContext(ctx, "sh", "-c", command).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", command, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// check reports whether the flags fit a store.
func (f failovers) check(isCluster bool) error {
	switch {
	case (f.kill != "" || f.restart != "") && !isCluster:
		return usageError{errors.New("--kill and --restart are for nats:// stores")}
	case f.restart != "" && f.kill == "":
		return usageError{errors.New("--restart needs --kill")}
	}
	return nil
}
