package jetstream

import (
	"slices"
	"strings"
	"testing"

	"github.com/deed-dev/deed/store"
)

var oddNames = []string{
	"a", "a/", "a/1", "a/1/2", "/", "//", "/a", "a//", "a.b", "a*", "a>", ">", "*", ".", "$command/1", "$", "a b", " a", "a ",
	"%", "%%", "%-", "%41", "A", "a/%-", "a/%", "zwölf", "zwo\u0308lf", "中/文", "🙂", "a/b.c", "a.b/c", "a/-", "-", "a\u00a0b",
}

// Every stream has a subject of its own, that means nothing to NATS.
func TestSubjectsAreInjective(t *testing.T) {
	s := subjects{"deed"}
	seen := map[string]string{s.check(): "a check"}
	for _, name := range oddNames {
		subject := s.stream(name)
		if other, taken := seen[subject]; taken {
			t.Errorf("%q and %q are both %s", name, other, subject)
		}
		seen[subject] = name
		wellFormed(t, subject)
		if back, ok, err := s.streamOf(subject); back != name || !ok || err != nil {
			t.Errorf("%q became %s and then %q, %v, %v", name, subject, back, ok, err)
		}
		prefix := strings.TrimSuffix(s.category(store.Category(name)), "*")
		if !strings.HasPrefix(subject, prefix) {
			t.Errorf("%s is not in %s", subject, s.category(store.Category(name)))
		}
		if back, err := s.keyOf(s.doc("v", name)); back != name || err != nil {
			t.Errorf("the key %q came back as %q, %v", name, back, err)
		}
	}
	if _, ok, err := s.streamOf(s.check()); ok || err != nil {
		t.Errorf("a check is taken for a record: %v", err)
	}
}

func wellFormed(t *testing.T, subject string) {
	t.Helper()
	tokens := strings.Split(subject, ".")
	if len(tokens) != 4 || slices.Contains(tokens, "") || strings.ContainsAny(subject, " *>\t\r\n") {
		t.Errorf("%q is not a subject for a message", subject)
	}
}

func FuzzSubjects(f *testing.F) {
	for _, name := range oddNames {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if store.CheckName("stream", name) != nil {
			t.Skip()
		}
		s := subjects{"deed"}
		wellFormed(t, s.stream(name))
		if back, ok, err := s.streamOf(s.stream(name)); back != name || !ok || err != nil {
			t.Errorf("%q came back as %q, %v, %v", name, back, ok, err)
		}
	})
}

// What is not a subject of ours is an error, not a panic.
func FuzzStreamOf(f *testing.F) {
	f.Add("deed.log.a.b")
	f.Add("deed.log.%4.%")
	f.Add("deed.log..")
	f.Add("deed.log.%61.%2F")
	f.Add("deed.log.%2F.b")
	f.Fuzz(func(t *testing.T, subject string) {
		s := subjects{"deed"}
		if name, ok, err := s.streamOf(subject); ok && err == nil && s.stream(name) != subject {
			t.Errorf("%q was read as %q, which is %q", subject, name, s.stream(name))
		}
	})
}
