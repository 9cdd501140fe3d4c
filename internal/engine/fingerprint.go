package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
)

// fingerprint tells failures apart by their cause: dead letters that have the
// same one failed for the same reason, as far as can be told. It is the same on
// every node and after every restart, because it is made of nothing but what the
// letter says: its reason without what differs from event to event, and, of a
// panic, the functions it came from. A letter that waits behind another has not
// failed, and has none.
func (l *DeadLetter) fingerprint() string {
	if l.Attempts == 0 {
		return ""
	}
	return FingerprintOf(l.Reason, l.Stack, l.Stream, l.Event.String())
}

// FingerprintOf is the fingerprint of a failure: why it failed, the stack if it
// panicked, and words that belong to the event, and not to the cause.
func FingerprintOf(reason, stack string, own ...string) string {
	h := sha256.New()
	h.Write([]byte(generalized(reason, own)))
	for _, f := range frames(stack) {
		h.Write([]byte("\n" + f))
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}

// variable is what differs between failures of the same cause: quoted text,
// identifiers, times, addresses in memory, numbers.
var variable = regexp.MustCompile(strings.Join([]string{
	`"(?:[^"\\]|\\.)*"`, "`[^`]*`", `'[^' ]*'`,
	`[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}`,
	`0[xX][0-9a-fA-F]+`,
	`\b[0-9a-fA-F]*[0-9][0-9a-fA-F]{6,}\b`,
	`[0-9]+(?:[.,:][0-9]+)*`,
}, "|"))

// generalized is a reason without what differs from event to event.
func generalized(reason string, own []string) string {
	reason = strings.TrimSuffix(reason, "...") // it was too long
	for _, word := range own {
		reason = withoutWord(reason, word)
		if _, id, ok := strings.Cut(word, "/"); ok {
			reason = withoutWord(reason, id)
		}
	}
	return variable.ReplaceAllString(reason, "#")
}

// withoutWord replaces a word where it stands by itself. One or two letters are
// too short to tell that they mean the event.
func withoutWord(s, word string) string {
	if len(word) < 3 {
		return s
	}
	var out strings.Builder
	for {
		before, after, found := strings.Cut(s, word)
		out.WriteString(before)
		if !found {
			return out.String()
		}
		if ends(before) && begins(after) {
			out.WriteByte('#')
		} else {
			out.WriteString(word)
		}
		s = after
	}
}

func ends(s string) bool   { return s == "" || !wordly(s[len(s)-1]) }
func begins(s string) bool { return s == "" || !wordly(s[0]) }

func wordly(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// topFrames is how many functions of a stack belong to a fingerprint.
const topFrames = 3

// module is what the frames of this module begin with. They tell who called the
// function that panicked, which says nothing of the cause.
const module = "github.com/deed-dev/deed"

// frames returns the functions from which a panic came, the innermost first,
// without lines and arguments, which differ between builds and events. Those of
// the runtime and of whoever calls handlers are left out, unless there are no
// others.
func frames(stack string) []string {
	var all []string
	panicked := false
	for line := range strings.Lines(stack) {
		line = strings.TrimSpace(line)
		name, ok := function(line)
		switch {
		case strings.HasPrefix(line, "panic("):
			all, panicked = nil, true // what panicked is below
		case ok && panicked:
			all = append(all, name)
		}
	}
	var own []string
	for _, name := range all {
		if strings.HasPrefix(name, module+".") || strings.HasPrefix(name, module+"/internal/") {
			break
		}
		if !strings.HasPrefix(name, "runtime.") {
			own = append(own, name)
		}
	}
	if len(own) == 0 {
		own = all
	}
	return own[:min(len(own), topFrames)]
}

// function returns the name of the function in a line of a stack, without its
// arguments.
func function(line string) (string, bool) {
	i := strings.LastIndexByte(line, '(')
	if i <= 0 || !strings.HasSuffix(line, ")") || strings.HasPrefix(line, "created by ") {
		return "", false
	}
	return line[:i], true
}
