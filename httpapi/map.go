package httpapi

import (
	"net/http"
	"slices"
	"strings"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/diagram"
)

// drawing answers a map of what runs here, or of one domain, or the drawing of
// one process or saga as it stands.
func (a *api) drawing(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r, "domain", "instance", "format")
	if err != nil {
		return err
	}
	domain, instance, format := q.Get("domain"), q.Get("instance"), q.Get("format")
	info := a.rt.Describe()
	switch {
	case format != "" && format != "json" && format != "mermaid" && format != "markdown":
		return deed.Invalid{Field: "format", Detail: "must be json, mermaid or markdown"}
	case domain != "" && !slices.ContainsFunc(info.Domains, func(d deed.DomainInfo) bool { return d.Name == domain }):
		return problem(http.StatusNotFound, CodeNotFound, "there is no domain "+short(domain))
	case domain != "" && instance != "", format == "markdown" && domain+instance != "":
		return deed.Invalid{Detail: "markdown is of everything, and else give one of domain and instance"}
	case format == "markdown":
		return text(w, diagram.Markdown(info))
	}
	g := diagram.Map(info, domain)
	if instance != "" {
		i, err := a.instanceNamed(r, instance)
		if err != nil {
			return err
		}
		g = diagram.Instance(info, i)
	}
	if format == "mermaid" {
		return text(w, g.Mermaid())
	}
	return answer(w, http.StatusOK, g)
}

// instanceNamed reads the instance that is named as KIND/NAME/ID.
func (a *api) instanceNamed(r *http.Request, s string) (deed.Instance, error) {
	kind, rest, _ := strings.Cut(s, "/")
	name, id, ok := strings.Cut(rest, "/")
	if !ok || kind != "saga" && kind != "process" {
		return deed.Instance{}, deed.Invalid{Field: "instance", Detail: "has the form saga/NAME/ID or process/NAME/ID"}
	}
	i, err := a.rt.Instances().Get(r.Context(), kind, name, id)
	return i, noInstance(err, kind, name, id)
}

func text(w http.ResponseWriter, s string) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Write([]byte(s)) // the caller may be gone: then nobody minds
	return nil
}
