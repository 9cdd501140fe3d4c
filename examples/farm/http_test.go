package farm_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/examples/farm"
	"github.com/deed-dev/deed/internal/apicheck"
	"github.com/deed-dev/deed/internal/backends"
	"github.com/deed-dev/deed/internal/httptry"
	"github.com/deed-dev/deed/store"
)

// Every scenario is played on every backend, over real HTTP.
func TestOverHTTP(t *testing.T) {
	backends.Each(t, func(t *testing.T, open func(testing.TB) store.Store) {
		s := &site{Server: apicheck.Server{Base: deedtest.Serve(t, open(t), farm.Domain)}}
		t.Run("in and out", s.inAndOut)
		t.Run("a group", s.group)
		t.Run("a loan", s.loan)
		t.Run("service history", s.services)
		t.Run("groups", s.groups)
		t.Run("where it was", s.whereItWas)
		t.Run("a report", s.report)
		t.Run("malformed", s.malformed)
	})
}

// site is a farm that is served at an address.
type site struct {
	apicheck.Server
}

func (s *site) ask(t *testing.T, method, path, body string, headers ...string) httptry.Answer {
	t.Helper()
	return s.Ask(t, method, "/v1/"+path, body, headers...)
}

// do asks a command, waits for it if it is stored, and wants a status.
func (s *site) do(t *testing.T, status int, path, body string) httptry.Answer {
	t.Helper()
	a := s.ask(t, "POST", path, body, "Prefer", "wait=30")
	if a.Status != status {
		t.Fatalf("%s: %d %v, want %d", path, a.Status, a.Body, status)
	}
	return a
}

// types lists the types of the events of a stream.
func (s *site) types(t *testing.T, stream string) string {
	t.Helper()
	var out []string
	events, _ := s.ask(t, "GET", "streams/"+stream, "").Get("events").([]any)
	for _, e := range events {
		out = append(out, fmt.Sprint(e.(map[string]any)["type"]))
	}
	return strings.Join(out, " ")
}

func (s *site) buy(t *testing.T, id string) {
	t.Helper()
	s.do(t, 200, "cow/"+id+"/buy", `{"from":"mart","price":{"amount":1,"currency":"EUR"},"place":"barn/b"}`)
}

// Scenario F1 of the specification, but for who hears of it: that is groups.
func (s *site) inAndOut(t *testing.T) {
	look := func(view string, a httptry.Answer) httptry.Answer {
		return s.ask(t, "GET", fmt.Sprintf("views/%s/IE-123-0042?min-position=%v&wait=10s", view, a.Get("position")), "")
	}
	a := s.do(t, 200, "cow/IE-123-0042/buy", `{"from":"mart","price":{"amount":90000,"currency":"EUR"},"breed":"Angus","place":"barn/b"}`)
	in := look("animals", a)
	httptry.Want(t, "in", []any{in.Get("value", "on_farm"), in.Get("value", "herd"), in.Get("value", "tag"), in.Get("value", "how")}, []any{true, "IE-123", "0042", "bought"})
	a = s.do(t, 200, "cow/IE-123-0042/ai-visit", `{"date":"2026-02-03","technician":"t","sire":"s"}`)
	httptry.Want(t, "a visit changes nothing", look("animals", a).Body["value"], in.Body["value"])
	a = s.do(t, 200, "cow/IE-123-0042/relocate", `{"to":"field/hill"}`)
	httptry.Want(t, "place", look("whereabouts", a).Get("value", "place"), "field/hill")
	a = s.do(t, 200, "cow/IE-123-0042/sell", `{"to":"x","price":{"amount":1,"currency":"EUR"}}`)
	out := look("animals", a)
	httptry.Want(t, "out", []any{out.Get("value", "on_farm"), out.Get("value", "how"), out.Get("value", "since") == in.Get("value", "since")}, []any{false, "sold", false})
	httptry.Want(t, "nowhere", look("whereabouts", a).Status, 404)
	p := s.do(t, 422, "cow/IE-123-0042/relocate", `{"to":"field/hill"}`)
	httptry.Want(t, "relocate what is gone", p.Get("reason"), "not_on_farm")
}

// Scenario F1: who hears of it, and when.
func (s *site) groups(t *testing.T) {
	const cow = "IE-55-0042"
	changes := httptry.Tail(t, s.Base+"/v1/changes/on-farm?key="+cow)
	bought := s.do(t, 200, "cow/"+cow+"/buy", `{"from":"mart","price":{"amount":1,"currency":"EUR"},"place":"field/far"}`)
	httptry.Want(t, "one came", changes(), []any{"changed", cow, true})
	s.do(t, 200, "cow/"+cow+"/ai-visit", `{"date":"2026-02-03","technician":"t","sire":"s"}`)
	sold := s.do(t, 200, "cow/"+cow+"/sell", `{"to":"x","price":{"amount":1,"currency":"EUR"}}`)
	httptry.Want(t, "it left, and nothing in between", changes(), []any{"changed", cow, false})

	at := func(path string, a httptry.Answer) httptry.Answer {
		return s.ask(t, "GET", fmt.Sprintf("groups/%s&position=%v", path, a.Get("position")), "")
	}
	keys := func(a httptry.Answer) (keys []any) {
		all, _ := a.Get("members").([]any)
		for _, m := range all {
			keys = append(keys, m.(map[string]any)["key"])
		}
		return keys
	}
	httptry.Want(t, "members then", keys(at("on-farm?where=of.place=field/far", bought)), []any{cow})
	httptry.Want(t, "members now", keys(at("on-farm?where=of.place=field/far", sold)), []any(nil))
	httptry.Want(t, "kept there then", keys(at("kept?place=field/far", bought)), []any{cow})
	httptry.Want(t, "kept there now", keys(at("kept?place=field/far", sold)), []any(nil))
	httptry.Want(t, "kept nowhere", s.ask(t, "GET", "groups/kept", "").Status, 400)

	one := s.ask(t, "GET", fmt.Sprintf("groups/on-farm/%s?min-position=%v&wait=10s", cow, sold.Get("position")), "")
	httptry.Want(t, "what is known", []any{one.Get("in"), one.Get("ever_in"), one.Get("of", "known")}, []any{false, true, true})
	var history []any
	for _, h := range one.Get("history").([]any) {
		history = append(history, h.(map[string]any)["in"], h.(map[string]any)["type"])
	}
	httptry.Want(t, "history", history, []any{true, "bought", false, "sold"})

	s.ask(t, "GET", fmt.Sprintf("views/register?min-position=%v&wait=10s", sold.Get("position")), "")
	lines := s.ask(t, "GET", "views/register?where=animal="+cow+"&sort=at", "").Get("documents").([]any)
	httptry.Want(t, "lines of the register", len(lines), 2)
}

// In which field an animal was, as of a date: what is known of it now, and what
// was known of it then.
func (s *site) whereItWas(t *testing.T) {
	const cow = "IE-77-0001"
	s.buy(t, cow)
	httptry.Want(t, "no day", s.do(t, 400, "cow/"+cow+"/relocate", `{"to":"field/hill","date":"soon"}`).Get("code"), "invalid")
	s.do(t, 200, "cow/"+cow+"/relocate", `{"to":"field/hill","date":"2999-01-01"}`)
	last := s.do(t, 200, "cow/"+cow+"/relocate", `{"to":"field/far","date":"2999-01-10"}`)
	at := func(of string) any {
		a := s.ask(t, "GET", fmt.Sprintf("views/whereabouts/%s?%s&min-position=%v&wait=10s", cow, of, last.Get("position")), "")
		return a.Get("value", "place")
	}
	httptry.Want(t, "first", at("effective=2998-12-31T12:00:00Z"), "barn/b")
	httptry.Want(t, "on the hill", at("effective=2999-01-05T12:00:00Z"), "field/hill")
	httptry.Want(t, "then", at("effective=2999-01-10T00:00:00Z"), "field/far")
	httptry.Want(t, "what is known now, whenever it takes effect", at("at=2999-01-01T00:00:00Z"), "field/far")
	httptry.Want(t, "what was known after the first event", at("position="+fmt.Sprint(s.positionOf(t, "cow/"+cow, 1))), "barn/b")
	httptry.Want(t, "before anything", at("at=2000-01-01T00:00:00Z"), nil)
	far := s.ask(t, "GET", "views/whereabouts?where=place=field/far&effective=2999-01-05T00:00:00Z", "").Get("documents").([]any)
	httptry.Want(t, "who is in the far field on that day", len(far), 0)
}

// positionOf is where an event of a stream stands in the log.
func (s *site) positionOf(t *testing.T, stream string, version int) any {
	t.Helper()
	events := s.ask(t, "GET", fmt.Sprintf("streams/%s?from=%d&limit=1", stream, version), "").Get("events").([]any)
	return events[0].(map[string]any)["position"]
}

// A report is made of a part for each animal of the herd.
func (s *site) report(t *testing.T) {
	const herd = "IE-88"
	for _, tag := range []string{"0001", "0002", "0003", "0004"} {
		s.buy(t, herd+"-"+tag)
	}
	bought := s.do(t, 200, "cow/"+herd+"-0002/relocate", `{"to":"field/hill"}`)
	s.do(t, 200, "herd/"+herd+"/tb-inspection", `{"cows":["IE-88-0001","IE-88-0002"],"date":"2026-02-03","inspector":"vet","reactors":["IE-88-0001"]}`)
	s.do(t, 200, "cow/"+herd+"-0003/sell", `{"to":"x","price":{"amount":1,"currency":"EUR"}}`)
	told := func(a httptry.Answer) string {
		var out []string
		for _, m := range a.Get("result", "animals").([]any) {
			m := m.(map[string]any)
			out = append(out, fmt.Sprint(m["animal"], " ", m["place"], " ", m["kept_by"]))
		}
		places, _ := json.Marshal(a.Get("result", "places"))
		return fmt.Sprint(strings.Join(out, ", "), "; ", string(places), "; ", a.Get("result", "kept"))
	}
	now := s.ask(t, "POST", "queries/herd-report", `{"herd":"IE-88"}`)
	httptry.Want(t, "now", told(now), `IE-88-0001 barn/b the animal must pass a TB inspection before it may leave the farm, IE-88-0002 field/hill <nil>, IE-88-0004 barn/b <nil>; `+
		`[{"animals":2,"place":"barn/b"},{"animals":1,"place":"field/hill"}]; 1`)
	httptry.Want(t, "again", s.ask(t, "POST", "queries/herd-report", `{"herd":"IE-88"}`).Get("cached"), true)
	s.buy(t, "IE-89-0001")
	httptry.Want(t, "another herd", s.ask(t, "POST", "queries/herd-report", `{"herd":"IE-89"}`).Get("result", "kept"), 0)
	then := s.ask(t, "POST", fmt.Sprintf("queries/herd-report?position=%v", bought.Get("position")), `{"herd":"IE-88"}`)
	httptry.Want(t, "before the inspection", told(then), `IE-88-0001 barn/b <nil>, IE-88-0002 field/hill <nil>, IE-88-0003 barn/b <nil>, IE-88-0004 barn/b <nil>; `+
		`[{"animals":3,"place":"barn/b"},{"animals":1,"place":"field/hill"}]; 0`)
	httptry.Want(t, "no herd", s.ask(t, "POST", "queries/herd-report", `{"herd":"mine"}`).Status, 400)
	httptry.Want(t, "an empty one", told(s.ask(t, "POST", "queries/herd-report", `{"herd":"IE-1"}`)), "; []; 0")
}

// Scenario F2.
func (s *site) group(t *testing.T) {
	for _, tag := range []string{"0042", "0043", "0044"} {
		s.buy(t, "IE-7-"+tag)
	}
	inspection := `{"cows":["IE-7-0042","IE-7-0043","IE-7-%s"],"date":"2026-02-03","inspector":"vet","reactors":["IE-7-0043"]}`
	bad := s.do(t, 400, "herd/IE-7/tb-inspection", fmt.Sprintf(inspection, "9999"))
	found, _ := json.Marshal(bad.Get("errors"))
	httptry.Want(t, "what is wrong", string(found), `[{"detail":"there is no cow IE-7-9999","field":"cows.2"}]`)
	status := s.ask(t, "GET", strings.TrimPrefix(bad.Header.Get("Location"), "/v1/"), "")
	httptry.Want(t, "state", []any{status.Get("state"), status.Get("entities")}, []any{"invalid", nil})
	for _, tag := range []string{"0042", "0043", "0044"} {
		httptry.Want(t, "events of "+tag, s.types(t, "cow/IE-7-"+tag), "bought")
	}
	httptry.Want(t, "events of 9999", s.ask(t, "GET", "streams/cow/IE-7-9999", "").Status, 404)

	good := s.do(t, 200, "herd/IE-7/tb-inspection", fmt.Sprintf(inspection, "0044"))
	httptry.Want(t, "entities", []any{good.Get("state"), good.Get("entity_count"), good.Get("entities")}, []any{"completed", 3, []any{"cow/IE-7-0042", "cow/IE-7-0043", "cow/IE-7-0044"}})
	for _, tag := range []string{"0042", "0043", "0044"} {
		httptry.Want(t, "events of "+tag, s.types(t, "cow/IE-7-"+tag), "bought tb-inspected")
	}
	httptry.Want(t, "a reactor stays", s.do(t, 422, "cow/IE-7-0043/transfer", `{"herd":"IE-8"}`).Get("reason"), "tb_reactor")

	s.do(t, 200, "field/hill/register", `{"name":"Hill","area_m2":5}`)
	s.do(t, 200, "herd/IE-7/relocate", `{"cows":["IE-7-0042","IE-7-0044"],"to":"field/hill"}`)
	httptry.Want(t, "moved", s.types(t, "cow/IE-7-0044"), "bought tb-inspected relocated")
	httptry.Want(t, "to nowhere", s.do(t, 400, "herd/IE-7/relocate", `{"cows":["IE-7-0042"],"to":"barn/none"}`).Get("errors").([]any)[0].(map[string]any)["field"], "to")
}

// A loan is secured by tractors, fields and cattle together.
func (s *site) loan(t *testing.T) {
	s.do(t, 200, "tractor/CH1/buy", `{"make":"Green","model":"T","from":"dealer","price":{"amount":1,"currency":"EUR"}}`)
	s.do(t, 200, "field/home/register", `{"name":"Home","area_m2":5}`)
	s.buy(t, "IE-9-0001")
	s.buy(t, "IE-9-0002")
	on := func(cow string) string {
		return `{"lender":"bank","amount":{"amount":5000,"currency":"EUR"},"tractors":["CH1"],"fields":["home"],"cows":["IE-9-` + cow + `"]}`
	}
	httptry.Want(t, "unknown", s.do(t, 400, "loan/l1/collateralise", on("0009")).Get("errors").([]any)[0].(map[string]any)["field"], "cows.0")
	done := s.do(t, 200, "loan/l1/collateralise", on("0001"))
	httptry.Want(t, "entities", done.Get("entity_count"), 4)
	httptry.Want(t, "the field is pledged", s.types(t, "field/home"), "registered pledged")
	taken := s.do(t, 422, "loan/l2/collateralise", on("0002"))
	httptry.Want(t, "taken", taken.Get("reason"), "secures_a_loan")
	httptry.Want(t, "nothing of the second loan", []any{s.types(t, "cow/IE-9-0002"), s.ask(t, "GET", "loan/l2", "").Status}, []any{"bought", 404})
	httptry.Want(t, "sell", s.do(t, 422, "tractor/CH1/sell", `{"to":"x","price":{"amount":1,"currency":"EUR"}}`).Get("reason"), "secures_a_loan")
	httptry.Want(t, "repay nothing", s.do(t, 404, "loan/l3/repay", `{}`).Get("code"), "not_found")
	s.do(t, 200, "loan/l1/repay", `{"notes":"at last"}`)
	httptry.Want(t, "repay again", s.do(t, 422, "loan/l1/repay", `{}`).Get("reason"), "loan_repaid")
	free := s.do(t, 200, "loan/l2/collateralise", on("0002"))
	httptry.Want(t, "free again", free.Get("state"), "completed")
	s.eventually(t, "views/loans/l1", true, "value", "repaid")
	s.eventually(t, "views/loans/l2", "[IE-9-0002]", "value", "cows")
}

// eventually waits for a field of a document.
func (s *site) eventually(t *testing.T, path string, value any, field ...string) {
	t.Helper()
	head, _ := s.ask(t, "GET", "events?limit=1000", "").Get("next").(string)
	a := s.ask(t, "GET", path+"?min-position="+head+"&wait=10s", "")
	httptry.Want(t, path, a.Get(field...), value)
}

func (s *site) services(t *testing.T) {
	s.do(t, 200, "tractor/CH7/buy", `{"make":"Green","model":"T","from":"dealer","price":{"amount":1,"currency":"EUR"}}`)
	s.do(t, 200, "tractor/CH7/service", `{"date":"2026-01-05","text":"oil"}`)
	a := s.do(t, 200, "tractor/CH7/service", `{"date":"2026-02-05","text":"tyres"}`)
	page := s.ask(t, "GET", fmt.Sprintf("views/services?where=tractor=CH7&sort=-date&min-position=%v&wait=10s", a.Get("position")), "")
	data, _ := json.Marshal(page.Body)
	if i, j := strings.Index(string(data), "tyres"), strings.Index(string(data), "oil"); i < 0 || j < i {
		t.Errorf("%s", data)
	}
	event := s.ask(t, "GET", "streams/tractor/CH7?from=2&limit=1", "").Get("events").([]any)[0].(map[string]any)
	httptry.Want(t, "effective", event["meta"].(map[string]any)["effective"], "2026-01-05T00:00:00Z")
}

func (s *site) malformed(t *testing.T) {
	before := len(s.commands(t))
	s.do(t, 400, "herd/h/tb-inspection", `{"cows":[],"date":"2026-02-03","inspector":"vet"}`)
	s.do(t, 400, "loan/l/collateralise", `{"lender":"bank","amount":{"amount":-5,"currency":"EUR"},"cows":["a"]}`)
	httptry.Want(t, "commands", len(s.commands(t)), before)
}

func (s *site) commands(t *testing.T) []any {
	t.Helper()
	all, _ := s.ask(t, "GET", "commands?limit=1000", "").Get("commands").([]any)
	return all
}
