package engine

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// What failed for the same reason has the same fingerprint, whatever the event,
// and another reason has another one.
func TestFingerprint(t *testing.T) {
	same := [][]string{
		{`no order "o-17"`, `no order "o-4"`, `no order "a \"quoted\" one"`},
		{"post https://a.example/x: 503", "post https://a.example/x: 500"},
		{"no customer 018f3a5e-1111-7abc-8def-0123456789ab", "no customer 018F3A5E-2222-7abc-8def-0123456789ab"},
		{"at 2026-02-03T04:05:06.789Z", "at 2026-12-03T04:05:07Z"},
		{"invalid memory address 0xc0000140a0", "invalid memory address 0xdeadbeef"},
		{"hash 9f86d081884c7d65", "hash 60303ae22b998861"},
		{"index out of range [5] with length 3", "index out of range [11] with length 10"},
		{"takes 1.5 of 2,000", "takes 3 of 4"},
	}
	seen := map[string]string{}
	for _, of := range same {
		first := FingerprintOf(of[0], "")
		for _, reason := range of[1:] {
			if got := FingerprintOf(reason, ""); got != first {
				t.Errorf("%q is %s, and %q %s: %q", of[0], first, reason, got, generalized(reason, nil))
			}
		}
		if other, ok := seen[first]; ok {
			t.Errorf("%q is the same as %q", of[0], other)
		}
		seen[first] = of[0]
	}
	// It is stored nowhere, but people write it down.
	if got := FingerprintOf(`no order "o-17"`, ""); got != "59709a532f35" {
		t.Error(got)
	}
}

// The stream and the id of an event are no part of the cause, where they stand by
// themselves.
func TestFingerprintWithoutTheEvent(t *testing.T) {
	one := FingerprintOf("order/ann@3: ann is not known to canned", "", "order/ann")
	two := FingerprintOf("order/bob@4: bob is not known to canned", "", "order/bob")
	if one != two {
		t.Errorf("%s, %s", one, two)
	}
	if got := generalized("ann and annie", []string{"order/ann"}); got != "# and annie" {
		t.Error(got)
	}
	if got := generalized("a bad day", []string{"order/a"}); got != "a bad day" {
		t.Error(got)
	}
}

func deepPanic(n int) error {
	if n == 0 {
		forgotten()["x"] = 1
		return nil
	}
	return deepPanic(n - 1)
}

func stackOf(f func() error) string {
	p, _ := errors.AsType[*panicked](safely(f))
	return p.stack
}

// The functions that panicked tell causes apart, and neither arguments nor lines do.
func TestFramesOfPanics(t *testing.T) {
	a, b := stackOf(func() error { return deepPanic(5) }), stackOf(func() error { return deepPanic(6) })
	if FingerprintOf("panic", a) != FingerprintOf("panic", b) {
		t.Errorf("%q\n%q", frames(a), frames(b))
	}
	if c := stackOf(func() error { panic("x") }); FingerprintOf("panic", a) == FingerprintOf("panic", c) {
		t.Errorf("%q is the same as %q", frames(a), frames(c))
	}
	stack := strings.ReplaceAll(`goroutine 7 [running]:
runtime/debug.Stack()
	/go/src/runtime/debug/stack.go:26 +0x5e
github.com/deed-dev/deed/internal/engine.safely.func1()
	/x/worker.go:395 +0x4c
panic({0x1?, 0x2?})
	/go/src/runtime/panic.go:783 +0x132
runtime.goPanicIndex(0x5, 0x3)
	/go/src/runtime/panic.go:115 +0x74
shop.example/orders.(*Mailer).send(0xc000, {0x1, 0x2})
	/x/mail.go:LINE +0x1d
shop.example/orders.Domain.func2(...)
	/x/domain.go:80
github.com/deed-dev/deed.Handle[...].func1({0x1, 0x2})
	/x/handler.go:56 +0x1d
created by github.com/deed-dev/deed/internal/engine.(*follower).start in goroutine 1
	/x/run.go:1 +0x1
`, "LINE", fmt.Sprint(12))
	if got, want := fmt.Sprint(frames(stack)), "[shop.example/orders.(*Mailer).send shop.example/orders.Domain.func2]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := FingerprintOf("panic: x", strings.ReplaceAll(stack, "mail.go:12", "mail.go:99")); got != FingerprintOf("panic: x", stack) {
		t.Error("a line is part of it")
	}
}
