package httpapi

import (
	"net/http"

	"github.com/deed-dev/deed"
)

// NewWithMost is New with another bound of how many instances are asked
// something at once.
func NewWithMost(rt *deed.Runtime, most int) http.Handler {
	a := newAPI(rt, Options{})
	a.most = most
	return a.handler()
}

// Patterns are the patterns of all routes there are, and whether the table
// says for whom each is.
func Patterns(rt *deed.Runtime) map[string]bool {
	all := map[string]bool{}
	for _, r := range (&api{rt: rt}).routes() {
		all[r.pattern] = r.access != ""
	}
	return all
}
