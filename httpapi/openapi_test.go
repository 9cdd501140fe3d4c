package httpapi_test

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/apicheck"
	"github.com/deed-dev/deed/store/mem"
)

// openAPI is the document of a runtime.
func openAPI(t testing.TB, rt *deed.Runtime) *apicheck.Contract {
	t.Helper()
	text, err := httpapi.OpenAPI(rt, "v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	return apicheck.Of(t, text)
}

// Every route is in the OpenAPI document; ids of operations are unique.
func TestOpenAPIHasEveryRoute(t *testing.T) {
	rt := deedtest.StartOn(t, mem.New(), jars())
	text, err := httpapi.OpenAPI(rt, "v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]struct {
			ID string `json:"operationId"`
		}
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	have, ids := map[string]bool{}, map[string]string{}
	for path, methods := range doc.Paths {
		for method, op := range methods {
			pattern := strings.ToUpper(method) + " " + path
			have[pattern] = true
			if other := ids[op.ID]; other != "" {
				t.Errorf("%s and %s are both %s", other, pattern, op.ID)
			}
			ids[op.ID] = pattern
		}
	}
	names := strings.NewReplacer("{aggregate}/{id}/{command}", "jar/{id}/drop", "{aggregate}/{command}", "jar/drop", "{view}/{key}", "open/{key}", "/views/{view}", "/views/open",
		"/groups/{group}", "/groups/full", "/queries/{name}", "/queries/coins", "POST /v1/sagas/{name}/{id}", "POST /v1/sagas/count/{id}", "...}", "}")
	for _, pattern := range slices.Sorted(maps.Keys(httpapi.Patterns(rt))) {
		want := names.Replace(pattern)
		switch pattern {
		case "/":
			continue
		case "GET /v1/{aggregate}/{id}":
			want = "GET /v1/jar/{id}"
		case "POST /v1/sagas/{name}":
			want = "POST /v1/sagas/count"
		}
		if !have[want] && !have[strings.Replace(want, "/sagas/count/{id}/", "/sagas/{name}/{id}/", 1)] {
			t.Errorf("%s is not in the document as %s", pattern, want)
		}
	}
}

// The document knows the codes that docs/http.md explains, and no others.
func TestOpenAPIHasEveryCode(t *testing.T) {
	text, err := httpapi.OpenAPI(deedtest.Start(t, jars()), "")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Components struct {
			Schemas map[string]struct {
				Properties map[string]struct{ Enum []string }
			}
		}
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	told, err := os.ReadFile("../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rows, _ := strings.Cut(string(told), "| code | status | when |\n")
	var want []string
	for row := range strings.Lines(rows) {
		if code := strings.TrimSpace(strings.Split(row, "|")[1]); code != "---" {
			want = append(want, code)
		}
	}
	got := doc.Components.Schemas["Problem"].Properties["code"].Enum
	slices.Sort(got)
	slices.Sort(want)
	if len(want) < 10 || !slices.Equal(got, want) {
		t.Errorf("codes are %v, docs/http.md has %v", got, want)
	}
}
