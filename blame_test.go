package deed_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
)

func TestBlame(t *testing.T) {
	onMeadow(t, func(m *meadow) {
		began := time.Now()
		m.happens("a", "penned", `{"pen":"p"}`)
		m.happens("a", "shorn", `{}`)
		m.happens("a", "penned", `{"pen":"q"}`)
		m.happens("a", "counted", `{}`)
		m.happens("a", "strayed", `{}`)
		for name, tt := range map[string]struct {
			from, to deed.Reader
			want     []string
		}{
			"all":       {nil, m.rt, []string{"pen", "q", "", "a@5"}},
			"a version": {nil, m.rt.AtVersion(3), []string{"pen  \"q\" sheep/a@3 penned ann", "seen  0 sheep/a@1 penned ann", "shorn  true sheep/a@2 shorn ann"}},
			"between":   {m.rt.AtVersion(1), m.rt.AtVersion(3), []string{`pen "p" "q" sheep/a@3 penned ann`, "shorn false true sheep/a@2 shorn ann"}},
			"times":     {m.rt.AsOf(began.Add(3 * time.Second)), m.rt.AsOf(began.Add(time.Hour)), []string{`pen "q"  sheep/a@5 strayed ann`, "seen 0 1 sheep/a@4 counted ann"}},
			"the same":  {m.rt.AtVersion(3), m.rt.AtVersion(3), nil},
		} {
			changes, err := m.rt.Blame(m.Context(), tt.from, tt.to, "sheep", "a")
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, c := range changes {
				got = append(got, fmt.Sprintf("%s %s %s %s %s %s", c.Field, c.Before, c.Now, c.Event, c.Type, c.Actor))
			}
			if name == "all" { // what is gone again was never there
				m.want(name, len(got), 2)
				continue
			}
			m.want(name, got, tt.want)
		}
		_, err := m.rt.Blame(m.Context(), nil, m.rt, "sheep", "b")
		m.want("nobody", errors.Is(err, deed.ErrNotFound), true)
	})
}

// What takes effect later, or was recorded too late, is told from what was known.
func TestEffectiveAt(t *testing.T) {
	onMeadow(t, func(m *meadow) {
		record := func(typ, data string, effective time.Time) {
			m.n++
			e := store.Event{Type: typ, Data: []byte(data), Meta: fmt.Appendf(nil, `{"effective":%q}`, effective.Format(time.RFC3339Nano))}
			copy(e.ID[:], fmt.Sprintf("%016d", m.n))
			if _, err := m.s.Append(m.Context(), store.Write{Stream: "sheep/a", Expect: store.Any, Events: []store.Event{e}}); err != nil {
				m.Fatal(err)
			}
		}
		now := time.Now()
		m.happens("a", "counted", `{}`)
		record("penned", `{"pen":"p"}`, now.Add(time.Hour)) // from in an hour
		record("shorn", `{}`, now.Add(-time.Hour))          // an hour ago, as is known now
		record("counted", `{}`, now.Add(2*time.Hour))       // in two hours
		for at, want := range map[time.Duration]sheep{-2 * time.Hour: {}, -time.Minute: {"", true, 0}, time.Minute: {"", true, 1}, time.Hour: {"p", true, 1}, 3 * time.Hour: {"p", true, 2}} {
			got, _, err := flock.Load(m.Context(), m.rt.EffectiveAt(now.Add(at)), "a")
			if err != nil && !errors.Is(err, deed.ErrNotFound) {
				t.Fatal(err)
			}
			m.want(at.String(), got, want)
		}
		doc, err := flock.States().Get(m.Context(), m.rt.EffectiveAt(now.Add(-time.Minute)), "a")
		m.want("a document", []any{doc, err}, []any{sheep{"", true, 0}, nil})
	}, flock.States())
}
