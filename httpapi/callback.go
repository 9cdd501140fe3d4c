package httpapi

import (
	"net/http"
	"strings"

	"github.com/deed-dev/deed"
)

// callbacksOf reads the callbacks that a request names, each as
//
//	Deed-Callback: <https://host/path>; on="error completion"
//
// The header may be repeated, or hold several with commas between them. Without
// on, a callback is told of errors and of the completion.
func callbacksOf(h http.Header) ([]deed.Callback, error) {
	var all []deed.Callback
	for _, line := range h.Values("Deed-Callback") {
		for rest := line; ; {
			c, after, ok := parseCallback(rest)
			if !ok {
				return nil, deed.Invalid{Detail: `Deed-Callback must be like <https://host/path>; on="error step completion"`}
			}
			all = append(all, c)
			if rest, ok = strings.CutPrefix(after, ","); !ok {
				break
			}
		}
	}
	return all, nil
}

// parseCallback reads the first callback of a line, up to its end or a comma.
func parseCallback(line string) (c deed.Callback, rest string, ok bool) {
	line, ok = strings.CutPrefix(strings.TrimSpace(line), "<")
	if !ok {
		return c, "", false
	}
	if c.URL, rest, ok = strings.Cut(line, ">"); !ok {
		return c, "", false
	}
	rest = strings.TrimSpace(rest)
	parameter, isThere := strings.CutPrefix(rest, ";")
	if !isThere {
		c.On = []string{deed.OnError, deed.OnCompletion}
		return c, rest, rest == "" || rest[0] == ','
	}
	parameter, ok = strings.CutPrefix(strings.TrimSpace(parameter), `on="`)
	if !ok {
		return c, "", false
	}
	on, rest, ok := strings.Cut(parameter, `"`)
	rest = strings.TrimSpace(rest)
	c.On = strings.Fields(on)
	return c, rest, ok && (rest == "" || rest[0] == ',')
}
