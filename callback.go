package deed

import (
	"fmt"
	"net/url"
	"slices"
)

// A Callback is a web address that is told what becomes of a command, see
// Call.Callbacks.
type Callback struct {
	URL string   `json:"url"` // http or https
	On  []string `json:"on"`  // what it is told of: error, step, completion
}

// What a callback can be told of.
const (
	OnError      = "error"      // the command was rejected, has failed or is invalid
	OnStep       = "step"       // a step of it is done
	OnCompletion = "completion" // it is completed, or was cancelled
)

// MaxCallbacks is how many callbacks a command may have.
const MaxCallbacks = 4

// maxURL is how long the address of a callback may be.
const maxURL = 2000

// checkCallbacks reports whether the caller may name these callbacks.
func (rt *Runtime) checkCallbacks(all []Callback) error {
	if len(all) > MaxCallbacks {
		return Invalid{Detail: fmt.Sprintf("a command has at most %d callbacks", MaxCallbacks)}
	}
	for _, c := range all {
		if err := c.Check(); err != nil {
			return err
		}
		if rt.cfg.Callbacks == nil {
			return Invalid{Detail: "callbacks are not allowed: this program calls nobody back"}
		}
		if err := rt.cfg.Callbacks(c); err != nil {
			return asInvalid(err)
		}
	}
	return nil
}

// Check reports whether the callback is well-formed. Its error is an [Invalid].
func (c Callback) Check() error {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return Invalid{Detail: "a callback must be the address of a page, as in https://host/path"}
	case len(c.URL) > maxURL:
		return Invalid{Detail: fmt.Sprintf("the address of a callback is longer than %d bytes", maxURL)}
	case u.User != nil || u.Fragment != "":
		return Invalid{Detail: "the address of a callback has no user, no password and no fragment"}
	case len(c.On) == 0:
		return Invalid{Detail: "a callback says what it is told of: error, step, completion"}
	}
	for i, on := range c.On {
		if !slices.Contains([]string{OnError, OnStep, OnCompletion}, on) || slices.Contains(c.On[:i], on) {
			return Invalid{Detail: fmt.Sprintf("a callback is told of error, step or completion, each once: not of %q", on)}
		}
	}
	return nil
}
