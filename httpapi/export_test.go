package httpapi

import "github.com/deed-dev/deed"

// Patterns are the patterns of all routes there are, and whether the table
// says for whom each is.
func Patterns(rt *deed.Runtime) map[string]bool {
	all := map[string]bool{}
	for _, r := range (&api{rt: rt}).routes() {
		all[r.pattern] = r.access != ""
	}
	return all
}
