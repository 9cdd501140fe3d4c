package deed

import (
	"strings"
	"testing"
	"time"
)

// What a clock skips or repeats, in zones that change at different hours.
func TestTimesOfASchedule(t *testing.T) {
	for _, c := range []struct{ cron, zone, from, want string }{
		{"30 1 * * *", "", "2026-01-01T00:00:00Z", "2026-01-01T01:30:00Z 2026-01-02T01:30:00Z"},
		// 01:30 does not come to pass on 29 March in Dublin.
		{"30 1 * * *", "Europe/Dublin", "2026-03-28T00:00:00Z", "2026-03-28T01:30:00Z 2026-03-29T02:30:00+01:00 2026-03-30T01:30:00+01:00"},
		// And twice on 25 October.
		{"30 1 * * *", "Europe/Dublin", "2026-10-24T12:00:00Z", "2026-10-25T01:30:00+01:00 2026-10-26T01:30:00Z"},
		{"30 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", "2026-03-08T03:30:00-04:00 2026-03-09T02:30:00-04:00"},
		{"30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", "2026-11-01T01:30:00-04:00 2026-11-02T01:30:00-05:00"},
		{"0 3 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T03:00:00+02:00 2026-03-30T03:00:00+02:00"},
		// What does not name hours runs on through it.
		{"0,30 * * * *", "Europe/Dublin", "2026-10-25T00:45:00+01:00", "2026-10-25T01:00:00+01:00 2026-10-25T01:30:00+01:00 2026-10-25T01:00:00Z 2026-10-25T01:30:00Z 2026-10-25T02:00:00Z"},
		{"@every 90m", "", "2026-01-01T00:00:00Z", "2026-01-01T01:30:00Z 2026-01-01T03:00:00Z"},
		{"@daily", "Europe/Dublin", "2026-10-24T12:00:00Z", "2026-10-25T00:00:00+01:00 2026-10-26T00:00:00Z"},
		{"0 0 29 2 *", "", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"},
	} {
		times, err := Schedule{Cron: c.cron, Zone: c.zone}.times()
		if err != nil {
			t.Errorf("%s: %v", c.cron, err)
			continue
		}
		at, err := time.Parse(time.RFC3339, c.from)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for range strings.Fields(c.want) {
			at = times.after(at)
			got = append(got, at.Format(time.RFC3339))
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s %s:\n%s, wanted\n%s", c.cron, c.zone, s, c.want)
		}
	}
}

func TestBadSchedules(t *testing.T) {
	for want, s := range map[string]Schedule{
		"says no times":       {Cron: "61 * * * *"},
		"time zone":           {Cron: "0 0 * * *", Zone: "Mars/Olympus"},
		"never comes to pass": {Cron: "0 0 30 2 *"},
	} {
		if _, err := s.times(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, wanted %q", err, want)
		}
	}
}
