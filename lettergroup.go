package deed

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/deed-dev/deed/internal/engine"
)

// A LetterGroup is dead letters that failed for the same reason.
type LetterGroup struct {
	Fingerprint string     `json:"fingerprint"`
	Count       int        `json:"count"`  // of those that failed
	Blocks      int        `json:"blocks"` // events and messages that wait behind them
	Oldest      time.Time  `json:"oldest"` // when the first was parked
	Newest      time.Time  `json:"newest"`
	Followers   []string   `json:"followers"` // that have such letters
	Example     DeadLetter `json:"example"`   // the oldest
}

// Groups returns the dead letters that a filter means by what they failed of, the
// most frequent first, and how many are in none of the thousand groups it counts.
func (d DeadLetters) Groups(ctx context.Context, f LetterFilter) (groups []LetterGroup, others int, err error) {
	if f.past() || f.State == engine.StateWaiting {
		return nil, 0, Invalid{Field: "state", Detail: "groups are of what failed: use retrying or dead"}
	}
	if err := f.check(); err != nil {
		return nil, 0, err
	}
	places, err := d.places(ctx, f)
	if err != nil {
		return nil, 0, err
	}
	g := grouping{filter: f, by: map[string]*LetterGroup{}}
	for _, p := range places {
		if err := d.group(ctx, p, &g); err != nil {
			return nil, 0, err
		}
	}
	groups = []LetterGroup{}
	for _, one := range g.by {
		groups = append(groups, *one)
	}
	slices.SortFunc(groups, func(a, b LetterGroup) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), a.Oldest.Compare(b.Oldest), cmp.Compare(a.Fingerprint, b.Fingerprint))
	})
	return groups, g.others, nil
}

// A grouping counts dead letters by what they failed of.
type grouping struct {
	filter LetterFilter
	by     map[string]*LetterGroup
	others int

	together bool              // whatever they failed of
	each     func(*DeadLetter) // is told of each that failed; nil = nobody is
}

// group counts the letters of a place.
func (d DeadLetters) group(ctx context.Context, p letterPlace, g *grouping) error {
	heads := map[string]*LetterGroup{} // of letters that others may wait behind
	var held map[string]int            // messages of an ordered queue, by key
	for l, err := range d.at(ctx, p, LetterFilter{}, "") {
		if err != nil {
			return err
		}
		if l.Fingerprint == "" {
			if one := heads[l.Behind]; one != nil {
				one.Blocks++
			}
			continue
		}
		if !g.filter.matches(&l) {
			continue
		}
		one := g.add(l)
		heads[l.ID] = one
		if l.Kind != engine.KindQueue || one == nil {
			continue
		}
		if held == nil {
			if held, err = p.queue.blocked(ctx); err != nil {
				return err
			}
		}
		for _, k := range l.Keys {
			one.Blocks += held[k]
			delete(held, k) // they wait behind the first
		}
	}
	return nil
}

// add counts a letter, and returns its group; nil if there are too many.
func (g *grouping) add(l DeadLetter) *LetterGroup {
	of := l.Fingerprint
	if g.together {
		of = ""
	}
	if g.each != nil {
		g.each(&l)
	}
	one := g.by[of]
	if one == nil {
		if len(g.by) == maxGroups {
			g.others++
			return nil
		}
		one = &LetterGroup{Fingerprint: of, Oldest: l.FirstAt, Newest: l.FirstAt, Example: l}
		g.by[of] = one
	}
	one.Count++
	if l.FirstAt.Before(one.Oldest) {
		one.Oldest, one.Example = l.FirstAt, l
	}
	if l.FirstAt.After(one.Newest) {
		one.Newest = l.FirstAt
	}
	if !slices.Contains(one.Followers, l.Follower) {
		one.Followers = append(one.Followers, l.Follower)
	}
	return one
}
