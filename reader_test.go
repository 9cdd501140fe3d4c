package deed_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
)

// A reader that sees a part sees no more of it as of another time.
func TestReadersNarrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := deedtest.Start(t, deed.Domain{Parts: []deed.Part{lamps()}})
		began := time.Now()
		for range 3 {
			if _, err := lamps().Execute(t.Context(), rt, "l", Light{Colour: "red"}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		}
		hours := func(n time.Duration) time.Time { return began.Add(n*time.Hour + time.Minute) }
		for name, tt := range map[string]struct {
			r    deed.Reader
			want uint64
		}{
			"now":                    {rt, 3},
			"as of a time":           {deed.AsOf(rt, hours(1)), 2},
			"as of an earlier time":  {deed.AsOf(rt.AsOf(hours(1)), hours(0)), 1},
			"as of a later time":     {deed.AsOf(rt.AsOf(hours(0)), hours(1)), 1},
			"so many versions":       {deed.AsOf(rt.AtVersion(1), hours(2)), 1},
			"more versions than are": {deed.AsOf(rt.AtVersion(3), hours(1)), 2},
		} {
			if _, version, err := lamps().Load(t.Context(), tt.r, "l"); err != nil || version != tt.want {
				t.Errorf("%s: version %d, %v, wanted %d", name, version, err, tt.want)
			}
		}
	})
}
