package httpapi

import (
	"cmp"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/openapi"
	"github.com/deed-dev/deed/internal/schema"
)

// domains describes what the domains of a program add: routes with the names of
// aggregates, views, groups, queries and sagas in their paths.
func (d *describer) domains() {
	d.reserve()
	for _, a := range d.info.Aggregates {
		d.state(a)
		for _, name := range a.Commands {
			d.command(a.Domain, a.Name+"."+name, "", a.Prototypes[name], a.Rules[name], true)
		}
	}
	for _, s := range d.info.Stepwise {
		d.command(s.Domain, s.Name, s.Doc, s.Prototype, s.Rules, false)
	}
	for _, m := range d.info.Machines {
		if m.Kind == "saga" {
			d.saga(m)
		}
	}
	for _, v := range d.info.Views {
		d.view(v)
	}
	for _, g := range d.api.rt.Groups() {
		d.group(g)
	}
	for _, q := range d.info.Queries {
		d.query(q)
	}
}

// reserve keeps the names that have to do with those of the domains.
func (d *describer) reserve() {
	for _, a := range d.info.Aggregates {
		d.types.Reserve(a.Name+".state", a.Name+".entity")
		for _, name := range a.Commands {
			d.types.Reserve(a.Name + "." + name)
		}
	}
	for _, s := range d.info.Stepwise {
		d.types.Reserve(s.Name)
	}
	for _, m := range d.info.Machines {
		d.types.Reserve(m.Name + ".saga")
	}
	for _, v := range d.info.Views {
		d.types.Reserve(v.Name+".document", v.Name+".entry", v.Name+".page")
	}
	for _, q := range d.info.Queries {
		d.types.Reserve(q.Name+".parameters", q.Name+".answer", q.Name+".run")
	}
}

// with gives a schema of the document a name of its own, in which a field is of
// another schema.
func (d *describer) with(name string, of reflect.Type, field string, is *schema.Schema) *schema.Schema {
	return d.types.With(name, d.types.NameOf(of), field, is)
}

func (d *describer) state(a deed.AggregateInfo) {
	o := d.operation("state-of-"+a.Name, "The state of one.", cmp.Or(a.Domain, "deed"))
	o.Description = a.Doc
	path := "/v1/" + a.Name + "/{id}"
	d.parametersOf(o, path, []string{"version", "at", "position", "effective"}, nil)
	entity := d.with(a.Name+".entity", reflect.TypeFor[Entity](), "state", d.types.Add(a.Name+".state", a.State))
	d.answerJSON(o, http.StatusOK, entity, "ETag")
	d.refuse(o, http.StatusBadRequest, http.StatusNotFound)
	d.add(http.MethodGet, path, o)
}

// command describes a command of an entity, and the same with an id that the
// server makes. One that is stored first has a status, others have a receipt.
func (d *describer) command(domain, name, doc string, prototype any, rules deed.Rules, ofEntity bool) {
	body := openapi.JSON(d.types.AddInput(name, prototype, needed(prototype)))
	noun, verb, _ := strings.Cut(name, ".")
	stored := rules.Async || !ofEntity
	for _, made := range []bool{false, true} {
		path, id, status := "/v1/"+noun+"/{id}/"+verb, name, http.StatusOK
		if made {
			path, id, status = "/v1/"+noun+"/"+verb, name+".new", http.StatusCreated
		}
		o := d.operation(id, name, cmp.Or(domain, "deed"))
		if made {
			o.Summary += ", under an id that the server makes"
		}
		o.Description = d.commandText(doc, rules, stored)
		headers := []string{"Idempotency-Key"}
		if ofEntity {
			headers = append(headers, "If-Match")
		}
		if stored {
			headers = append(headers, "Prefer")
		}
		d.parametersOf(o, path, nil, append(headers, who...))
		o.Body = &openapi.Body{Content: body}
		receipt, life := d.types.Of(reflect.TypeFor[deed.Receipt]()), d.types.Of(reflect.TypeFor[deed.CommandStatus]())
		if stored {
			d.answerJSON(o, http.StatusOK, life, "Location", "Idempotent-Replay")
			d.answerJSON(o, http.StatusAccepted, life, "Location", "Idempotent-Replay")
		} else if made {
			d.answerJSON(o, status, receipt, "ETag", "Location", "Idempotent-Replay")
		} else {
			d.answerJSON(o, status, receipt, "ETag", "Idempotent-Replay")
		}
		d.refuse(o, http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity)
		if rules.Quota.Limit > 0 {
			d.refuse(o, http.StatusTooManyRequests)
		}
		d.add(http.MethodPost, path, o)
	}
}

// needed reports which fields have to be there in what comes from outside: those
// that the check of a prototype complains about. What is missing and is not
// complained about has the prototype's value.
func needed(prototype any) func(string) bool {
	missing := map[string]bool{}
	for _, f := range fields(complaint(prototype)) {
		name, _, _ := strings.Cut(f.Field, ".")
		name, _, _ = strings.Cut(name, "[")
		missing[name] = true
	}
	return func(name string) bool { return missing[name] }
}

// complaint is what is wrong with something that nobody has filled in. A check
// need not be made for that.
func complaint(v any) (err error) {
	defer func() {
		if recover() != nil {
			err = nil
		}
	}()
	if v, ok := v.(interface{ Validate() error }); ok {
		return v.Validate()
	}
	return nil
}

func (d *describer) commandText(doc string, rules deed.Rules, stored bool) string {
	text := doc
	if stored {
		text += " It is stored first, and handled in the background."
	}
	if len(rules.Roles) > 0 {
		text += " For " + strings.Join(rules.Roles, ", ") + "."
	}
	return strings.TrimSpace(text)
}

func (d *describer) saga(m deed.MachineInfo) {
	body := openapi.JSON(d.types.AddInput(m.Name+".saga", m.Prototype, needed(m.Prototype)))
	status := d.types.Of(reflect.TypeFor[deed.Instance]())
	for _, made := range []bool{false, true} {
		path, id := "/v1/sagas/"+m.Name+"/{id}", "begin-"+m.Name
		if made {
			path, id = "/v1/sagas/"+m.Name, id+".new"
		}
		o := d.operation(id, "Begin the saga "+m.Name+".", cmp.Or(m.Domain, "deed"))
		o.Description = d.commandText(m.Doc, deed.Rules{Roles: m.Roles}, false)
		d.parametersOf(o, path, nil, params([]string{"Idempotency-Key", "Prefer"}, who))
		o.Body = &openapi.Body{Content: body}
		d.answerJSON(o, http.StatusOK, status, "Location")
		d.answerJSON(o, http.StatusAccepted, status, "Location")
		d.refuse(o, http.StatusBadRequest, http.StatusForbidden, http.StatusUnprocessableEntity)
		d.add(http.MethodPost, path, o)
	}
}

func (d *describer) view(v deed.ViewInfo) {
	value := d.types.Add(v.Name+".document", v.Document)
	entry := d.with(v.Name+".entry", reflect.TypeFor[Document](), "value", value)
	page := d.with(v.Name+".page", reflect.TypeFor[DocumentPage](), "documents", &schema.Schema{Types: schema.Types{"array"}, Items: entry})

	path := "/v1/views/" + v.Name
	o := d.operation("documents-of-"+v.Name, "Documents of the view "+v.Name+".", "views")
	o.Description = strings.TrimSpace(v.Doc + " With fields=a,b.c documents have these fields only, and are not as described here.")
	d.parametersOf(o, path, params([]string{"limit", "after", "count"}, nowAndThen), nil)
	o.Parameters = append(o.Parameters, finding(v.Indexes, v.Search)...)
	d.answerJSON(o, http.StatusOK, page, "X-Read-Position")
	d.refuse(o, http.StatusBadRequest, http.StatusServiceUnavailable)
	d.add(http.MethodGet, path, o)

	o = d.operation("document-of-"+v.Name, "A document of the view "+v.Name+".", "views")
	o.Description = v.Doc
	d.parametersOf(o, path+"/{key}", nowAndThen, nil)
	d.answerJSON(o, http.StatusOK, entry, "X-Read-Position")
	d.refuse(o, http.StatusBadRequest, http.StatusNotFound, http.StatusServiceUnavailable)
	d.add(http.MethodGet, path+"/{key}", o)
}

// finding are the parameters that find documents by declared fields.
func finding(indexes, search []string) (all []*openapi.Parameter) {
	if len(indexes) > 0 {
		var names, sorts []string
		for _, f := range indexes {
			names, sorts = append(names, regexp.QuoteMeta(f)), append(sorts, f, "-"+f)
		}
		condition := &schema.Schema{Types: schema.Types{"string"}, Pattern: "^(" + strings.Join(names, "|") + ")(=|!=|<|<=|>|>=)"}
		all = append(all,
			&openapi.Parameter{Name: "where", In: "query", Description: "A field, an operator (= != < <= > >=) and a value, for example " + indexes[0] + "=x; may be repeated.", Schema: &schema.Schema{Types: schema.Types{"array"}, Items: condition}},
			&openapi.Parameter{Name: "sort", In: "query", Description: "A field; with - in front, descending.", Schema: oneOfThese(sorts)})
	}
	if len(search) > 0 {
		all = append(all, &openapi.Parameter{Name: "search", In: "query", Description: "Words that are in " + strings.Join(search, ", ") + ": words \"in a row\" beginn*.", Schema: schema.Of("string")})
	}
	return all
}

func (d *describer) group(g deed.GroupInfo) {
	path := "/v1/groups/" + g.Name
	list := d.operation("members-of-"+g.Name, "The members of the group "+g.Name+".", "groups")
	one := d.operation("member-of-"+g.Name, "What the group "+g.Name+" knows of one key.", "groups")
	list.Description, one.Description = g.Doc, g.Doc
	d.parametersOf(list, path, params(pageQuery, nowAndThen, []string{"search"}), nil)
	d.parametersOf(one, path+"/{key}", nowAndThen, nil)
	list.Parameters = append(list.Parameters, &openapi.Parameter{Name: "where", In: "query", Description: "A field, an operator and a value; may be repeated.", Schema: &schema.Schema{Types: schema.Types{"array"}, Items: schema.Of("string")}})
	for _, name := range sortedNames(g.Params) {
		p := &openapi.Parameter{Name: name, In: "query", Schema: schema.Of(g.Params[name])}
		list.Parameters, one.Parameters = append(list.Parameters, p), append(one.Parameters, p)
	}
	d.answerJSON(list, http.StatusOK, d.types.Of(reflect.TypeFor[MemberPage]()), "X-Read-Position")
	d.answerJSON(one, http.StatusOK, d.types.Of(reflect.TypeFor[Member]()), "X-Read-Position")
	d.refuse(list, http.StatusBadRequest)
	d.refuse(one, http.StatusBadRequest, http.StatusNotFound)
	d.add(http.MethodGet, path, list)
	d.add(http.MethodGet, path+"/{key}", one)
}

func sortedNames(m map[string]string) (names []string) {
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (d *describer) query(q deed.QueryInfo) {
	domain := cmp.Or(q.Domain, "deed")
	path := "/v1/queries/" + q.Name
	zero := reflect.Zero(q.Parameters).Interface()
	body := openapi.JSON(d.types.AddInput(q.Name+".parameters", zero, needed(zero)))
	run := d.with(q.Name+".run", reflect.TypeFor[deed.Run](), "result", d.types.Add(q.Name+".answer", q.Result))
	about := func(o *openapi.Operation) *openapi.Operation {
		o.Description = d.commandText(q.Doc, deed.Rules{Roles: q.Roles}, q.Async)
		return o
	}

	ask := about(d.operation("ask-"+q.Name, "Ask the query "+q.Name+".", domain))
	d.parametersOf(ask, path, []string{"at", "position", "version", "effective", "max-age"}, params([]string{"Idempotency-Key", "Prefer", "Deed-Deliver"}, who))
	ask.Body = &openapi.Body{Content: body}
	d.answerJSON(ask, http.StatusOK, run, "Location", "X-Read-Position", "Age")
	d.answerJSON(ask, http.StatusAccepted, run, "Location")
	d.refuse(ask, http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusUnprocessableEntity, http.StatusServiceUnavailable)
	d.add(http.MethodPost, path, ask)

	live := about(d.operation("live-"+q.Name, "What the query "+q.Name+" comes to, and again when that changes.", domain))
	d.parametersOf(live, path+"/live", []string{"max-age"}, []string{"Last-Event-ID"})
	live.Parameters = append(live.Parameters, &openapi.Parameter{Name: "parameters", In: "query", Description: "The parameters, as JSON.", Schema: schema.Of("string")})
	d.answer(live, http.StatusOK, d.reply(sent()[0]))
	d.add(http.MethodGet, path+"/live", live)

	runs := d.operation("runs-of-"+q.Name, "Recorded askings of "+q.Name+", the latest first.", domain)
	d.parametersOf(runs, path+"/runs", params([]string{"state", "actor"}, pageQuery, nowAndThen), nil)
	d.answerJSON(runs, http.StatusOK, d.types.Of(reflect.TypeFor[RunPage]()), "X-Read-Position")
	d.add(http.MethodGet, path+"/runs", runs)

	one := path + "/runs/{id}"
	get := d.operation("run-of-"+q.Name, "A recorded asking of "+q.Name+"; with wait, when it is over.", domain)
	d.parametersOf(get, one, []string{"wait"}, nil)
	d.answerJSON(get, http.StatusOK, run)
	d.refuse(get, http.StatusNotFound)
	d.add(http.MethodGet, one, get)

	tail := d.operation("live-run-of-"+q.Name, "The events of a recorded asking of "+q.Name+" as they happen.", domain)
	d.parametersOf(tail, one+"/live", nil, nil)
	d.answer(tail, http.StatusOK, d.reply(sent()[0]))
	d.add(http.MethodGet, one+"/live", tail)

	cancel := d.operation("cancel-run-of-"+q.Name, fmt.Sprintf("Call a recorded asking of %s off.", q.Name), domain)
	d.parametersOf(cancel, one+"/cancel", nil, who)
	cancel.Body = &openapi.Body{Content: openapi.JSON(d.types.AddInput("CancelRunBody", reasonBody{}, nil))}
	d.answerJSON(cancel, http.StatusOK, run)
	d.refuse(cancel, http.StatusNotFound, http.StatusConflict)
	d.add(http.MethodPost, one+"/cancel", cancel)
}
