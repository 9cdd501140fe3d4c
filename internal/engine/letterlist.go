package engine

import (
	"slices"
	"time"

	"github.com/deed-dev/deed/store"
)

// A letterList is dead letters in log order, and the sequences they block.
type letterList struct {
	letters []*letter
	blocked map[string]int // key -> letters that have it

	// A survey of the letters, made again when it is stale.
	retrying, waiting, dead int
	oldest                  time.Time // when the first of those was parked that do not wait for another
	next                    *letter   // the first to be tried again by itself
	at                      time.Time
	stale                   bool
}

// add parks a letter behind the others.
func (b *letterList) add(l *letter) {
	if !b.stale {
		b.note(l, b.blocks(l.Keys))
	}
	b.letters = append(b.letters, l)
	b.block(l.Keys)
}

func (b *letterList) block(keys []string) {
	if b.blocked == nil {
		b.blocked = map[string]int{}
	}
	for _, k := range keys {
		b.blocked[k]++
	}
}

// remove takes a letter out.
func (b *letterList) remove(l *letter) {
	b.letters = slices.DeleteFunc(b.letters, func(x *letter) bool { return x == l })
	for _, k := range l.Keys {
		if b.blocked[k]--; b.blocked[k] == 0 {
			delete(b.blocked, k)
		}
	}
	b.stale = true
}

// replace puts what has become of a letter in its place.
func (b *letterList) replace(l *letter, with *letter) {
	*l = *with
	b.stale = true
}

func (b *letterList) empty() bool { return len(b.letters) == 0 }

func (b *letterList) blocks(keys []string) bool {
	return len(b.blocked) > 0 && slices.ContainsFunc(keys, func(k string) bool { return b.blocked[k] > 0 })
}

func (b *letterList) find(p store.Position) *letter {
	for _, l := range b.letters {
		if l.pos == p {
			return l
		}
	}
	return nil
}

// among returns the letters at some positions, in log order.
func (b *letterList) among(at []store.Position) []*letter {
	wanted := map[store.Position]bool{}
	for _, p := range at {
		wanted[p] = true
	}
	var out []*letter
	for _, l := range b.letters {
		if wanted[l.pos] {
			out = append(out, l)
		}
	}
	return out
}

// sequence returns the letters connected to some keys, in log order.
func (b *letterList) sequence(of []string) []*letter {
	keys := map[string]bool{}
	for _, k := range of {
		keys[k] = true
	}
	connected := func(l *letter) bool { return slices.ContainsFunc(l.Keys, func(k string) bool { return keys[k] }) }
	for grew := true; grew; {
		grew = false
		for _, l := range b.letters {
			if !connected(l) {
				continue
			}
			for _, k := range l.Keys {
				grew = grew || !keys[k]
				keys[k] = true
			}
		}
	}
	var out []*letter
	for _, l := range b.letters {
		if connected(l) {
			out = append(out, l)
		}
	}
	return out
}

// due returns the letter that is to be tried again first by itself, and
// when; nil if none is. One that waits for nothing (the program ended between
// two of its sequence) is due at once.
func (b *letterList) due() (*letter, time.Time) {
	b.survey()
	return b.next, b.at
}

// counts returns how many letters are in each state, and when the oldest of
// those that failed was parked.
func (b *letterList) counts() (retrying, waiting, dead int, oldest time.Time) {
	b.survey()
	return b.retrying, b.waiting, b.dead, b.oldest
}

func (b *letterList) survey() {
	if !b.stale {
		return
	}
	b.retrying, b.waiting, b.dead, b.oldest, b.next, b.at, b.stale = 0, 0, 0, time.Time{}, nil, time.Time{}, false
	var before letterList
	for _, l := range b.letters {
		b.note(l, before.blocks(l.Keys))
		before.block(l.Keys)
	}
}

// note takes one letter into the survey.
func (b *letterList) note(l *letter, blocked bool) {
	at := time.Time{}
	if l.State != StateWaiting && (b.oldest.IsZero() || l.FirstAt.Before(b.oldest)) {
		b.oldest = l.FirstAt
	}
	switch l.State {
	case StateDead:
		b.dead++
		return
	case StateRetrying:
		b.retrying++
		at = l.NextAt
	default:
		b.waiting++
	}
	if !blocked && (b.next == nil || at.Before(b.at)) {
		b.next, b.at = l, at
	}
}
