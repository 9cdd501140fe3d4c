package delivery

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Filter says which events a subscriber wants. It is the part of the filter
// dialects of the CloudEvents Subscriptions API that needs no language: each
// filter has exactly one of the members.
type Filter struct {
	Exact  map[string]string `json:"exact,omitempty"`  // attributes that have these values
	Prefix map[string]string `json:"prefix,omitempty"` // attributes that begin so
	Suffix map[string]string `json:"suffix,omitempty"` // attributes that end so
	All    []Filter          `json:"all,omitempty"`
	Any    []Filter          `json:"any,omitempty"`
	Not    *Filter           `json:"not,omitempty"`
}

// Bounds of filters.
const (
	maxFilterDepth = 5
	maxFilters     = 100
)

// Check reports whether filters are well formed.
func Check(filters []Filter) error {
	n := 0
	for i := range filters {
		if err := filters[i].check(1, &n); err != nil {
			return err
		}
	}
	return nil
}

func (f *Filter) check(depth int, n *int) error {
	if *n++; *n > maxFilters || depth > maxFilterDepth {
		return fmt.Errorf("has more than %d parts, or is nested deeper than %d", maxFilters, maxFilterDepth)
	}
	members := 0
	for _, values := range []map[string]string{f.Exact, f.Prefix, f.Suffix} {
		if values == nil {
			continue
		}
		members++
		if len(values) == 0 {
			return errors.New("has a member without attributes")
		}
		for name, v := range values {
			if !IsAttribute(name) {
				return fmt.Errorf("names the attribute %q: events have %s", name, strings.Join(attributes, ", "))
			}
			if v == "" {
				return fmt.Errorf("compares %s with nothing", name)
			}
		}
	}
	for _, list := range [][]Filter{f.All, f.Any} {
		if list == nil {
			continue
		}
		members++
		if len(list) == 0 {
			return errors.New("has an empty all or any")
		}
		for i := range list {
			if err := list[i].check(depth+1, n); err != nil {
				return err
			}
		}
	}
	if f.Not != nil {
		members++
		if err := f.Not.check(depth+1, n); err != nil {
			return err
		}
	}
	if members != 1 {
		return errors.New("needs exactly one of exact, prefix, suffix, all, any and not")
	}
	return nil
}

// Matches reports whether an event is one that all the filters want.
func Matches(filters []Filter, e *Event) bool {
	for i := range filters {
		if !filters[i].matches(e) {
			return false
		}
	}
	return true
}

func (f *Filter) matches(e *Event) bool {
	switch {
	case f.Exact != nil:
		return each(f.Exact, e, func(v, want string) bool { return v == want })
	case f.Prefix != nil:
		return each(f.Prefix, e, strings.HasPrefix)
	case f.Suffix != nil:
		return each(f.Suffix, e, strings.HasSuffix)
	case f.Any != nil:
		return slices.ContainsFunc(f.Any, func(g Filter) bool { return g.matches(e) })
	case f.Not != nil:
		return !f.Not.matches(e)
	}
	return Matches(f.All, e)
}

func each(values map[string]string, e *Event, is func(v, want string) bool) bool {
	for name, want := range values {
		if v := e.Attribute(name); v == "" || !is(v, want) {
			return false
		}
	}
	return true
}
