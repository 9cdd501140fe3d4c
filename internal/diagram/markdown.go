package diagram

import (
	"strings"

	"github.com/deed-dev/deed"
)

// Markdown returns a document with a map of each domain, for people.
func Markdown(info deed.Info) string {
	var b strings.Builder
	b.WriteString(`# Maps

Written by ` + "`deed map --markdown`" + `: change the program, not this file.

Blue are commands, yellow is what they are asked of, orange are the events that come of them. Lilac is what goes on by itself: processes,
schedules, and sagas with their steps in order. Dashed arrows lead back: to what is undone when a step cannot be done, the last one first. A circle
is a timer of a process, a slanted box a question that somebody has to answer. Which event a command leads to, and which commands a process or a
step sends, is decided when the program runs: ` + "`deed map --instance KIND/NAME/ID`" + ` draws that of one instance.
`)
	for _, d := range inhabited(info) {
		b.WriteString("\n## " + d.Name + "\n\n")
		if d.Doc != "" {
			b.WriteString(d.Doc + "\n\n")
		}
		g := Map(info, d.Name)
		g.Title = "" // the heading says it
		b.WriteString("```mermaid\n" + g.Mermaid() + "```\n")
		for _, m := range info.Machines {
			if m.Domain == d.Name {
				b.WriteString("\n- " + m.Kind + " **" + m.Name + "**: " + m.Doc + "\n")
			}
		}
	}
	return b.String()
}
