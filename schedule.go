package deed

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/wire"
)

// A Schedule does something at certain times. Each time is one record in the
// stream "$schedule/<name>/runs", in the append of what is done, so nothing is
// done twice, whichever node's turn it is and however often it is restarted.
type Schedule struct {
	Name string // lower-case words joined by hyphens
	Doc  string // one sentence for people
	// Cron says when: minute, hour, day of the month, month, day of the week, as
	// in crontab(5), for example "30 1 * * *"; or "@daily", "@every 10m".
	Cron string
	// Zone is the time zone in which that is meant, for example "Europe/Dublin";
	// "" is UTC. A time of day that the clock skips counts all the same, as if it
	// had not been put forward; one that comes twice counts the first time.
	Zone   string
	Missed Missed // what becomes of times that passed while nothing ran

	// Do says what to do, given the time that was due. It decides and does nothing
	// else, like the reactions of a [Process]. A command that is refused is
	// recorded as refused, and that is all.
	Do func(due time.Time) []Action
}

// Missed says what becomes of times of a [Schedule] that passed while no program
// ran, or its partition was nobody's.
type Missed string

// What may become of times that were missed.
const (
	MissedOnce Missed = ""     // the latest of them is made up for
	MissedAll  Missed = "all"  // each is made up for, in order
	MissedSkip Missed = "skip" // none is
)

// punctual is how late a run may be without counting as missed.
const punctual = time.Minute

const (
	scheduleCategory = "$schedule"
	scheduleID       = "runs"
	scheduleTimer    = "next"
)

func (s Schedule) order() int { return 4 }

func (s Schedule) register(rt *Runtime) error {
	if err := checkName("schedule", s.Name); err != nil {
		return err
	}
	when, err := s.times()
	if err != nil {
		return fmt.Errorf("schedule %s: %w", s.Name, err)
	}
	if s.Do == nil {
		return fmt.Errorf("schedule %s does nothing: set Do", s.Name)
	}
	m := &schedule{s, when}
	d := &definitions{kind: "schedule", name: s.Name, doc: s.Doc, cron: strings.TrimSpace(s.Cron + " " + s.Zone), byVersion: map[int]machine{0: m}}
	return rt.addMachine(d, nil, nil)
}

// times reads Cron and Zone.
func (s Schedule) times() (times, error) {
	loc, err := time.LoadLocation(cmp.Or(s.Zone, "UTC"))
	if err != nil {
		return times{}, fmt.Errorf("the time zone %q is unknown: use a name like Europe/Dublin", s.Zone)
	}
	spec, err := cron.ParseStandard(s.Cron)
	if err != nil {
		return times{}, fmt.Errorf("%q says no times: %w; give minute, hour, day of the month, month, day of the week, for example 30 1 * * *", s.Cron, err)
	}
	fields := strings.Fields(s.Cron)
	daily := len(fields) == 5 && !strings.Contains(fields[1], "*") || s.Cron != "@hourly" && len(fields) == 1
	t := times{spec, loc, daily}
	if t.after(time.Unix(0, 0)).IsZero() {
		return t, fmt.Errorf("%q never comes to pass", s.Cron)
	}
	return t, nil
}

// times are the moments of a schedule.
type times struct {
	spec  cron.Schedule
	zone  *time.Location
	daily bool // it names hours, so what the clock skips or repeats matters
}

// after returns the first moment after t.
func (s times) after(t time.Time) time.Time {
	if !s.daily {
		return s.spec.Next(t.In(s.zone))
	}
	// As the clock on the wall shows it, without a zone, no hour is skipped.
	wall := onWall(t.In(s.zone))
	for {
		if wall = s.spec.Next(wall); wall.IsZero() {
			return wall
		}
		if at := s.when(wall); at.After(t) {
			return at
		}
	}
}

// onWall is what a clock shows, as if it were UTC.
func onWall(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
}

// when is the first moment at which the clock shows this, or would, had it not
// been put forward.
func (s times) when(wall time.Time) time.Time {
	before := wall.Add(-24 * time.Hour).In(s.zone)
	_, offset := before.Zone()
	at := wall.Add(-time.Duration(offset) * time.Second).In(s.zone)
	if onWall(at).Equal(wall) || onWall(at).After(wall) && !onWall(s.later(wall)).Equal(wall) {
		return at
	}
	return s.later(wall)
}

// later is the moment by the offset of a day after.
func (s times) later(wall time.Time) time.Time {
	_, offset := wall.Add(24 * time.Hour).In(s.zone).Zone()
	return wall.Add(-time.Duration(offset) * time.Second).In(s.zone)
}

// schedule is a Schedule as a machine: its one instance has one timer.
type schedule struct {
	Schedule
	times times
}

// scheduled is the state of the instance: what its timer was set by.
type scheduled struct {
	Cron string    `json:"cron"`
	Zone string    `json:"zone,omitempty"`
	Last time.Time `json:"last,omitzero"` // the time that was due when it last ran
	Runs int       `json:"runs,omitzero"`
}

// move takes in that the program has started, or that it is time. That something
// it has begun is over does not change when it is time again.
func (s *schedule) move(p *plan, x *turn, in input) error {
	var was scheduled
	if err := wire.Unmarshal(x.cell.state.Data, &was); err != nil {
		return engine.Permanent(err)
	}
	next := s.times.after(p.now)
	switch {
	case in.Kind == inputTimer && in.Name == scheduleTimer:
		var due time.Time
		if due, next = s.due(in.due, p.now); !due.IsZero() {
			was.Last, was.Runs = due, was.Runs+1
			if err := s.run(p, x, due); err != nil {
				return err
			}
		}
	case was.Cron == s.Cron && was.Zone == s.Zone:
		return nil
	}
	was.Cron, was.Zone = s.Cron, s.Zone
	data, err := wire.Marshal(was)
	if err != nil {
		return engine.Permanent(err)
	}
	x.set(data)
	x.setTimer(scheduleTimer, next)
	return nil
}

// due returns the time that is to be run for, zero if there is none, and the
// one after it.
func (s *schedule) due(due, now time.Time) (run, next time.Time) {
	next = s.times.after(due)
	if s.Missed == MissedAll || next.After(now) && (s.Missed != MissedSkip || now.Sub(due) < punctual) {
		return due, next
	}
	for !next.After(now) {
		due, next = next, s.times.after(next)
	}
	if s.Missed == MissedSkip && now.Sub(due) >= punctual {
		return time.Time{}, next
	}
	return due, next
}

func (s *schedule) run(p *plan, x *turn, due time.Time) error {
	for _, a := range s.Do(due.In(s.times.zone)) {
		if err := a.plan(p, x); err != nil {
			if _, no := isRefusal(err); !no {
				return err
			}
		}
	}
	return nil
}

func (s *schedule) late(*plan, *turn, input) (bool, error) { return true, nil }
func (s *schedule) undo(*plan, *turn) error                { return nil }
func (s *schedule) next(*turn, time.Time) time.Time        { return time.Time{} }

// fail does nothing: a schedule goes on.
func (s *schedule) fail(*plan, *turn, Reason) error { return nil }

// startSchedules sets the timers of schedules that have none, or that were set
// by another Cron.
func (rt *Runtime) startSchedules(ctx context.Context) {
	rt.persist(ctx, "schedules cannot be started", func() error {
		var errs []error
		for _, d := range rt.machines {
			if d.kind != "schedule" {
				continue
			}
			if err := rt.startSchedule(ctx, d); err != nil {
				errs = append(errs, fmt.Errorf("schedule %s: %w", d.name, err))
			}
		}
		return errors.Join(errs...)
	})
}

func (rt *Runtime) startSchedule(ctx context.Context, d *definitions) error {
	stream := instanceStream(scheduleCategory, d.name, scheduleID)
	i, err := rt.readInstance(ctx, stream)
	if errors.Is(err, ErrNotFound) {
		_, err := rt.advance(ctx, stream, input{Kind: inputStarted, state: json.RawMessage("{}")})
		return err
	}
	if err != nil {
		return err
	}
	var was scheduled
	if err := wire.Unmarshal(i.Data, &was); err != nil {
		return err
	}
	if strings.TrimSpace(was.Cron+" "+was.Zone) == d.cron {
		return nil
	}
	_, err = rt.advance(ctx, stream, input{Kind: inputGoOn})
	return err
}
