package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
)

func (a *app) task() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "task",
		Short: "What processes and sagas ask people: list, claim and decide",
		Example: `  deed task list --role treasurer
  deed task decide 0b5e approve --reason "known customer"`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return usageError{errors.New("task needs one of list, show, claim, release and decide")}
		},
	}
	cmd.AddCommand(
		a.listTasks(), a.showTask(),
		a.onTask("claim", "Make a task yours: nobody else can decide it until you release it"),
		a.onTask("release", "Give a task back that you have claimed"),
		a.decideTask(),
	)
	return cmd
}

func (a *app) listTasks() *cobra.Command {
	var state, role, claimed, after string
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Print tasks, the latest first; who is no reader sees their own",
		Example: `  deed task list
  deed task list --role treasurer
  deed task list --state decided --json`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{}
			for name, v := range map[string]string{"state": state, "role": role, "claimed_by": claimed, "after": after} {
				if v != "" && !(name == "state" && v == "any") {
					q.Set(name, v)
				}
			}
			a.shows = "tasks"
			return a.with(cmd.Context(), func(c *client.Client) error {
				all := httpapi.TaskPage{Tasks: []deed.Task{}}
				for { // a page may have fewer than it could
					var page httpapi.TaskPage
					q.Set("limit", strconv.Itoa(limit-len(all.Tasks)))
					if _, err := c.Do(cmd.Context(), http.MethodGet, client.Path(q, "v1", "tasks"), nil, nil, &page); err != nil {
						return err
					}
					all.Tasks, all.Next = append(all.Tasks, page.Tasks...), page.Next
					if page.Next == "" || len(all.Tasks) >= limit {
						break
					}
					q.Set("after", page.Next)
				}
				return a.show(all, func() {
					a.printTasks(all.Tasks)
					a.more(all.Next)
				})
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&state, "state", deed.TaskOpen, "only these: open, decided, overdue, withdrawn; or any")
	f.StringVar(&role, "role", "", "only those that this role may decide")
	f.StringVar(&claimed, "claimed-by", "", "only those that this actor has claimed")
	f.StringVar(&after, "after", "", "go on after this mark")
	f.IntVar(&limit, "limit", 100, "at most so many, up to 1000")
	return cmd
}

func (a *app) printTasks(list []deed.Task) {
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tSTATE\tOF\tQUESTION\tFOR\tCLAIMED BY\tDUE")
	for _, t := range list {
		due := ""
		if !t.Due.IsZero() {
			due = t.Due.Format(time.DateTime)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", t.ID, t.State, strings.TrimPrefix(t.Instance, "$"), t.Question.Text, strings.Join(t.Roles, ", "), t.Claimed, due)
	}
	w.Flush()
}

func (a *app) showTask() *cobra.Command {
	return &cobra.Command{
		Use:     "show ID",
		Short:   "Print a task: what is asked, who may decide, and what was decided",
		Example: "  deed task show 0b5e",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.with(cmd.Context(), func(c *client.Client) error {
				var t deed.Task
				if _, err := c.Do(cmd.Context(), http.MethodGet, client.Path(nil, "v1", "tasks", given[0]), nil, nil, &t); err != nil {
					return err
				}
				return a.show(t, func() { a.printTask(t) })
			})
		},
	}
}

func (a *app) printTask(t deed.Task) {
	a.print("%s is %s\n%s\n", t.ID, t.State, t.Question.Text)
	a.print("asked by  %s, at %s\n", strings.TrimPrefix(t.Instance, "$"), t.Opened.Format(time.RFC3339))
	a.print("choices  %s\n", cmp.Or(strings.Join(t.Question.Choices, ", "), "approve, reject"))
	a.print("for  %s\n", cmp.Or(strings.Join(t.Roles, ", "), "admin"))
	if len(t.Question.Form) > 0 {
		a.print("data  %s\n", compact(t.Question.Form))
	}
	if t.Claimed != "" {
		a.print("claimed by  %s\n", t.Claimed)
	}
	if !t.Due.IsZero() {
		a.print("due  %s\n", t.Due.Format(time.RFC3339))
	}
	if d := t.Decision; d != nil {
		a.print("decided  %s by %s, at %s\n", d.Choice, cmp.Or(d.By, "nobody who said their name"), t.Closed.Format(time.RFC3339))
		if d.Reason != "" {
			a.print("because  %s\n", d.Reason)
		}
		if len(d.Data) > 0 {
			a.print("with  %s\n", compact(d.Data))
		}
	}
	if t.Reason != "" {
		a.print("because  %s\n", t.Reason)
	}
}

// onTask asks something about a task that needs no more words.
func (a *app) onTask(verb, short string) *cobra.Command {
	var actor string
	cmd := &cobra.Command{
		Use:     verb + " ID",
		Short:   short,
		Example: "  deed task " + verb + " 0b5e",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.askTask(cmd, actor, given[0], verb, nil)
		},
	}
	actorFlag(cmd.Flags(), &actor)
	return cmd
}

func (a *app) decideTask() *cobra.Command {
	var actor, why, data string
	cmd := &cobra.Command{
		Use:   "decide ID CHOICE",
		Short: "Decide a task; what asked goes on at once",
		Example: `  deed task decide 0b5e approve --reason "known customer"
  deed task decide 0b5e approve --data '{"limit":500}'`,
		Args: args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, given []string) error {
			body := map[string]any{"choice": given[1], "reason": why}
			if data != "" {
				b, err := a.body(data)
				if err != nil {
					return err
				}
				body["data"] = json.RawMessage(b)
			}
			return a.askTask(cmd, actor, given[0], "decision", body)
		},
	}
	f := cmd.Flags()
	f.StringVar(&why, "reason", "", "why")
	f.StringVar(&data, "data", "", "what the form asks for, as JSON, @FILE, or - for standard input")
	actorFlag(f, &actor)
	return cmd
}

func (a *app) askTask(cmd *cobra.Command, actor, id, verb string, body any) error {
	headers := a.asking(cmd, actor)
	return a.with(cmd.Context(), func(c *client.Client) error {
		var t deed.Task
		if _, err := c.Do(cmd.Context(), http.MethodPost, client.Path(nil, "v1", "tasks", id, verb), headers, body, &t); err != nil {
			return err
		}
		return a.show(t, func() {
			a.printTask(t)
			if verb == "decision" && a.store != "" {
				a.say("%s\n", a.served())
			}
		})
	})
}
