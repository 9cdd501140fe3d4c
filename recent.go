package deed

import lru "github.com/hashicorp/golang-lru/v2"

// recent keeps what was used lately, by name. It may be used by many goroutines. It
// is an interface because a package that sees a [Runtime] compiles each generic type
// in it anew, with all of its methods; an interface has none.
type recent[V any] interface {
	Add(name string, v V) (evicted bool)
	Get(name string) (V, bool)
	Peek(name string) (V, bool) // that is no use of it
	PeekOrAdd(name string, v V) (there V, ok, evicted bool)
	Remove(name string) bool
	RemoveOldest() (name string, v V, ok bool)
	Keys() []string
}

// newRecent keeps so many, and tells evicted, if it is not nil, what it lets go of.
func newRecent[V any](size int, evicted func(name string, v V)) recent[V] {
	c, _ := lru.NewWithEvict(max(size, 1), evicted) // fails only for sizes below 1
	return c
}
