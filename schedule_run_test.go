package deed_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store/mem"
)

// Each time is done once, over restarts, and what was missed meanwhile is made
// up for as the schedule wants it.
func TestSchedule(t *testing.T) {
	for _, c := range []struct {
		missed deed.Missed
		want   string
	}{
		{deed.MissedOnce, "1 2 3 7 8"},
		{deed.MissedAll, "1 2 3 4 5 6 7 8"},
		{deed.MissedSkip, "1 2 3 8"},
	} {
		t.Run(string(c.missed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // it begins on 1 January 2000, 00:00
				s := mem.New()
				var mu sync.Mutex
				var counted []string // by steps, several of which may run at once
				count := deed.Stepwise[move]{Name: "day.count", Steps: []deed.Step[move]{{Name: "count", Do: func(_ context.Context, _ *deed.Work, c move) error {
					mu.Lock()
					defer mu.Unlock()
					counted = append(counted, fmt.Sprint(c.N))
					return nil
				}}}}
				daily := deed.Schedule{Name: "daily", Cron: "30 1 * * *", Missed: c.missed, Do: func(due time.Time) []deed.Action {
					return []deed.Action{
						deed.Send(vaults, "v", take{1_000_000}), // is refused
						deed.Send(vaults, fmt.Sprintf("day-%d", due.Day()), drop{1}),
						count.Begin(fmt.Sprintf("t-%d", due.Day()), move{N: due.Day()}),
					}
				}}
				domain := deed.Domain{Name: "test", Parts: []deed.Part{vaults, daily, count}}
				_, stop := runSlowly(t, s, domain)
				time.Sleep(60 * time.Hour) // 1, 2, 3
				stop()
				time.Sleep(100 * time.Hour) // 4 to 7 are missed
				rt, stop := runSlowly(t, s, domain)
				defer stop()
				time.Sleep(24 * time.Hour)
				var days []string
				for day := range 31 {
					v, version, err := vaults.Load(t.Context(), rt, fmt.Sprintf("day-%d", day))
					if err == nil && (v.Coins != 1 || version != 1) {
						t.Errorf("day %d was done %d times", day, version)
					}
					if err == nil {
						days = append(days, fmt.Sprint(day))
					}
				}
				if got := strings.Join(days, " "); got != c.want {
					t.Errorf("it ran on %s, wanted %s", got, c.want)
				}
				slices.Sort(counted) // commands are done beside each other
				if got := strings.Join(counted, " "); got != c.want {
					t.Errorf("its command was done on %s, wanted %s", got, c.want)
				}
				i, err := rt.Instances().Get(t.Context(), "schedule", "daily", "runs")
				if err != nil || i.State != deed.InstanceRunning || i.Timers["next"].Day() != 9 {
					t.Errorf("%+v, %v", i, err)
				}
			})
		})
	}
}

// The end of what a schedule has begun does not change when it runs next.
func TestScheduleOfSagas(t *testing.T) {
	for name, step := range map[string]deed.SagaStep[move]{
		"over at once": {Name: "drop", Send: func(id string, _ move) []deed.Sending { return []deed.Sending{deed.Send(vaults, id, drop{1})} }},
		"over later": {Name: "drop", Do: func(ctx context.Context, w *deed.Work, _ *move) error {
			return w.Ask(ctx, deed.Send(vaults, w.ID, drop{1}))
		}},
		"undone": {Name: "take", Send: func(id string, _ move) []deed.Sending {
			return []deed.Sending{deed.Send(vaults, id, take{1_000_000})}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := mem.New()
				once := deed.Saga[move]{Name: "once", Steps: []deed.SagaStep[move]{step}}
				daily := deed.Schedule{Name: "daily", Cron: "30 1 * * *", Missed: deed.MissedAll, Do: func(due time.Time) []deed.Action {
					return []deed.Action{once.Begin(due.Format(time.DateOnly), move{})}
				}}
				domain := deed.Domain{Name: "test", Parts: []deed.Part{vaults, daily, once}}
				_, stop := runSlowly(t, s, domain)
				time.Sleep(2 * time.Hour)
				stop()
				time.Sleep(6 * 24 * time.Hour)
				rt, stop := runSlowly(t, s, domain)
				defer stop()
				time.Sleep(time.Minute)
				for day := range 7 {
					id := fmt.Sprintf("2000-01-%02d", day+1)
					if i, err := rt.Instances().Get(t.Context(), "saga", "once", id); err != nil || !i.State.Over() {
						t.Errorf("%s: %s, %v", id, i.State, err)
					}
				}
			})
		})
	}
}
