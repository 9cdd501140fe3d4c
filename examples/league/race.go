package league

import (
	"errors"
	"slices"
	"time"

	"github.com/deed-dev/deed"
)

// Race is what a decision about a race depends on. Its id is its name.
type Race struct {
	Status   RaceStatus     `json:"status"`
	Entrants map[int]string `json:"entrants"` // the runner, by race number
	Running  []int          `json:"running"`  // race numbers
}

// A RaceStatus says where a race is in its life. A race that nobody has
// cancelled or started takes entrants.
type RaceStatus string

// The statuses of a race.
const (
	RaceOpen      RaceStatus = ""
	RaceStarted   RaceStatus = "started"
	RaceCancelled RaceStatus = "cancelled"
)

// What can happen in a race.
type (
	RunnerRegistered struct {
		RaceNumber int    `json:"race_number"`
		LoginName  string `json:"login_name"`
	}
	Started struct {
		StartTime       time.Time `json:"start_time"`
		Notes           string    `json:"notes"`
		StartingRunners int       `json:"starting_runners"`
		RaceNumbers     []int     `json:"race_numbers"`
	}
	RunnerFinished struct {
		RaceNumber int       `json:"race_number"`
		FinishTime time.Time `json:"finish_time"`
	}
	Cancelled struct {
		Reason string `json:"reason"`
	}
)

func (e RunnerRegistered) Apply(r *Race) {
	entrants := map[int]string{e.RaceNumber: e.LoginName}
	for number, name := range r.Entrants {
		entrants[number] = name
	}
	r.Entrants = entrants
}
func (e Started) Apply(r *Race) { r.Status, r.Running = RaceStarted, e.RaceNumbers }
func (e RunnerFinished) Apply(r *Race) {
	r.Running = slices.DeleteFunc(slices.Clone(r.Running), func(n int) bool { return n == e.RaceNumber })
}
func (e Cancelled) Apply(r *Race) { r.Status = RaceCancelled }

// Effective is when the race started.
func (e Started) Effective() time.Time { return e.StartTime }

// Effective is when the runner came in.
func (e RunnerFinished) Effective() time.Time { return e.FinishTime }

// What can be asked of a race.
type (
	// RegisterRunner gives a runner a race number: the next that is free,
	// unless it says which.
	RegisterRunner struct {
		LoginName  string `json:"login_name"`
		RaceNumber int    `json:"race_number"`
	}
	// Start starts those of the entrants who are there.
	Start struct {
		StartTime   time.Time `json:"start_time"`
		RaceNumbers []int     `json:"race_numbers"` // none = all entrants
		Notes       string    `json:"notes"`
	}
	FinishRunner struct {
		RaceNumber int       `json:"race_number"`
		FinishTime time.Time `json:"finish_time"`
	}
	Cancel struct {
		Reason string `json:"reason"`
	}
)

// Why a race may say no.
var (
	ErrStarted       = deed.Reason{Code: "race_started", Text: "the race has started"}
	ErrCancelled     = deed.Reason{Code: "race_cancelled", Text: "the race is cancelled"}
	ErrNotStarted    = deed.Reason{Code: "race_not_started", Text: "the race has not started"}
	ErrNoEntrants    = deed.Reason{Code: "no_entrants", Text: "nobody is registered for the race"}
	ErrNumberTaken   = deed.Reason{Code: "race_number_taken", Text: "another runner has this race number"}
	ErrEntered       = deed.Reason{Code: "runner_registered", Text: "the runner is registered for the race already"}
	ErrUnknownNumber = deed.Reason{Code: "no_such_race_number", Text: "no runner has this race number"}
	ErrNotRunning    = deed.Reason{Code: "not_running", Text: "the runner is not, or no longer, running"}
)

const maxNumber = 1_000_000

func (c RegisterRunner) Validate() error {
	var err error
	if c.RaceNumber < 0 || c.RaceNumber > maxNumber {
		err = deed.Invalid{Field: "race_number", Detail: "must be from 1 to a million, or missing"}
	}
	return errors.Join(deed.Required("login_name", c.LoginName), err)
}

func (c RegisterRunner) Decide(r Race) ([]deed.Event[Race], error) {
	if err := r.mustBeOpen(); err != nil {
		return nil, err
	}
	next := 1
	for number, name := range r.Entrants {
		if name == c.LoginName {
			return nil, ErrEntered
		}
		next = max(next, number+1)
	}
	if c.RaceNumber == 0 {
		c.RaceNumber = next
	}
	if _, taken := r.Entrants[c.RaceNumber]; taken {
		return nil, ErrNumberTaken
	}
	return []deed.Event[Race]{RunnerRegistered{c.RaceNumber, c.LoginName}}, nil
}

func (c Start) Validate() error { return deed.Required("start_time", c.StartTime) }

func (c Start) Decide(r Race) ([]deed.Event[Race], error) {
	if err := r.mustBeOpen(); err != nil {
		return nil, err
	}
	if len(r.Entrants) == 0 {
		return nil, ErrNoEntrants
	}
	numbers := slices.Clone(c.RaceNumbers)
	if len(numbers) == 0 {
		for n := range r.Entrants {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	numbers = slices.Compact(numbers)
	for _, n := range numbers {
		if _, ok := r.Entrants[n]; !ok {
			return nil, ErrUnknownNumber
		}
	}
	return []deed.Event[Race]{Started{c.StartTime, c.Notes, len(numbers), numbers}}, nil
}

func (c FinishRunner) Validate() error {
	return errors.Join(deed.Required("race_number", c.RaceNumber), deed.Required("finish_time", c.FinishTime))
}

func (c FinishRunner) Decide(r Race) ([]deed.Event[Race], error) {
	switch _, known := r.Entrants[c.RaceNumber]; {
	case r.Status == RaceCancelled:
		return nil, ErrCancelled
	case r.Status != RaceStarted:
		return nil, ErrNotStarted
	case !known:
		return nil, ErrUnknownNumber
	case !slices.Contains(r.Running, c.RaceNumber):
		return nil, ErrNotRunning
	}
	return []deed.Event[Race]{RunnerFinished(c)}, nil
}

func (c Cancel) Validate() error { return deed.Required("reason", c.Reason) }

// Decide lets a race be cancelled while it is run: the weather does not wait.
func (c Cancel) Decide(r Race) ([]deed.Event[Race], error) {
	switch {
	case len(r.Entrants) == 0:
		return nil, deed.ErrNotFound
	case r.Status == RaceCancelled:
		return nil, ErrCancelled
	}
	return []deed.Event[Race]{Cancelled(c)}, nil
}

func (r Race) mustBeOpen() error {
	switch r.Status {
	case RaceStarted:
		return ErrStarted
	case RaceCancelled:
		return ErrCancelled
	}
	return nil
}

// Races is the vocabulary of races, as stored and as called.
var Races = deed.Aggregate[Race]{
	Name: "race",
	Doc:  "A race. It is there as soon as a runner registers for it.",
	Events: map[string]deed.Event[Race]{
		"runner-registered": RunnerRegistered{},
		"started":           Started{},
		"runner-finished":   RunnerFinished{},
		"cancelled":         Cancelled{},
	},
	Commands: map[string]deed.Command[Race]{
		"register-runner": RegisterRunner{},
		"start":           Start{},
		"finish-runner":   FinishRunner{},
		"cancel":          Cancel{},
	},
}
