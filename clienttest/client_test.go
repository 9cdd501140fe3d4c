package clienttest_test

import (
	"bytes"
	"context"
	"flag"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/oapi-codegen/oapi-codegen/v2/pkg/codegen"

	"github.com/deed-dev/deed"
	client "github.com/deed-dev/deed/clienttest/bank"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/examples/bank"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/store/mem"
)

var update = flag.Bool("update", false, "write the client anew")

const clientFile = "bank/client.go"

// document is the bank's, as an independent library reads it. It is valid.
func document(t *testing.T) ([]byte, *openapi3.T) {
	t.Helper()
	rt, err := deed.New(mem.New(), deed.Config{Domains: []deed.Domain{bank.Domain}})
	if err != nil {
		t.Fatal(err)
	}
	text, err := httpapi.OpenAPI(rt, "v1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context(), openapi3.EnableExamplesValidation()); err != nil {
		t.Fatal(err)
	}
	return text, doc
}

// The client in the folder bank is what the generator makes of the document.
func TestClientIsGenerated(t *testing.T) {
	_, doc := document(t)
	config := codegen.Configuration{
		PackageName: "bank",
		Generate:    codegen.GenerateOptions{Models: true, Client: true},
		OutputOptions: codegen.OutputOptions{IncludeOperationIDs: []string{
			"customer.create", "customer.create.new", "state-of-customer", "account.open", "command-status",
			"documents-of-customer-details", "document-of-customer-details", "ask-customer-overview",
		}},
	}.UpdateDefaults()
	code, err := codegen.Generate(doc, config)
	if err != nil {
		t.Fatal(err)
	}
	code = "// The client of the example bank, for a test. `make client` writes it anew.\n\n" + code
	if *update {
		if err := os.WriteFile(clientFile, []byte(code), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	was, err := os.ReadFile(clientFile)
	if err != nil || string(was) != code {
		t.Errorf("%s is not what is generated now (%v): run make client", clientFile, err)
	}
}

// checked is a client that holds every request and answer against the document,
// with an independent library.
type checked struct {
	t      *testing.T
	routes routers.Router
	n      int
}

func (c *checked) Do(r *http.Request) (*http.Response, error) {
	c.t.Helper()
	route, params, err := c.routes.FindRoute(r)
	if err != nil {
		c.t.Errorf("%s %s: %v", r.Method, r.URL, err)
		return http.DefaultClient.Do(r)
	}
	in := &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route, Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc}}
	if err := openapi3filter.ValidateRequest(r.Context(), in); err != nil {
		c.t.Errorf("%s %s: %v", r.Method, r.URL, err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: resp.StatusCode, Header: resp.Header, Body: io.NopCloser(bytes.NewReader(body))}
	if err := openapi3filter.ValidateResponse(r.Context(), out); err != nil {
		c.t.Errorf("%s %s: %d %s: %v", r.Method, r.URL, resp.StatusCode, body, err)
	}
	c.n++
	return resp, nil
}

// Scenario B1 of the specification, with the generated client over real HTTP:
// a customer is created, a second one with the same e-mail is refused, and the
// view shows the first.
func TestScenarioB1(t *testing.T) {
	base := deedtest.Serve(t, mem.New(), bank.Domain)
	_, doc := document(t)
	doc.Servers = openapi3.Servers{{URL: base}}
	routes, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	watch := &checked{t: t, routes: routes}
	c, err := client.NewClientWithResponses(base, client.WithHTTPClient(watch))
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	bea := client.CustomerCreate{FirstName: "Bea", LastName: "Lee", Email: "bea@example.com"}

	key := "create-bea"
	made, err := c.CustomerCreateNewWithResponse(ctx, &client.CustomerCreateNewParams{IdempotencyKey: &key}, bea)
	if err != nil || made.JSON201 == nil {
		t.Fatalf("%v: %s", err, made.Body)
	}
	receipt := made.JSON201
	_, id, _ := strings.Cut(receipt.Stream, "/")
	again, err := c.CustomerCreateNewWithResponse(ctx, &client.CustomerCreateNewParams{IdempotencyKey: &key}, bea)
	if err != nil || again.JSON201 == nil || again.JSON201.Stream != receipt.Stream || again.HTTPResponse.Header.Get("Idempotent-Replay") != "true" {
		t.Errorf("asked again: %v %s", err, again.Body)
	}

	taken, err := c.CustomerCreateNewWithResponse(ctx, nil, bea)
	if err != nil {
		t.Fatal(err)
	}
	if p := taken.ApplicationproblemJSON422; p == nil || p.Code != "rejected" || p.Reason == nil || *p.Reason != "email_taken" {
		t.Errorf("the same e-mail: %s", taken.Body)
	}
	wrong, err := c.CustomerCreateWithResponse(ctx, "eve", nil, client.CustomerCreate{FirstName: "Eve"})
	if err != nil {
		t.Fatal(err)
	}
	if p := wrong.ApplicationproblemJSON400; p == nil || p.Errors == nil || len(*p.Errors) != 2 {
		t.Errorf("no customer: %s", wrong.Body)
	}

	wait := "10s"
	where := []string{"last_name=Lee"}
	page, err := c.DocumentsOfCustomerDetailsWithResponse(ctx, &client.DocumentsOfCustomerDetailsParams{Where: &where, MinPosition: receipt.Position, Wait: &wait})
	if err != nil || page.JSON200 == nil {
		t.Fatalf("%v: %s", err, page.Body)
	}
	if all := page.JSON200.Documents; len(all) != 1 || all[0].Key != id || all[0].Value.Email != bea.Email || all[0].Value.FirstName != "Bea" {
		t.Errorf("the view shows %s", page.Body)
	}

	state, err := c.StateOfCustomerWithResponse(ctx, id, nil)
	if err != nil || state.JSON200 == nil || state.JSON200.State.Email != bea.Email || state.JSON200.Version != 1 {
		t.Errorf("%v: %s", err, state.Body)
	}
	prefer := "wait=30"
	opened, err := c.AccountOpenWithResponse(ctx, "a-1", &client.AccountOpenParams{Prefer: &prefer}, client.AccountOpen{Customer: id, Currency: "CAD"})
	if err != nil || opened.JSON200 == nil {
		t.Fatalf("%v: %s", err, opened.Body)
	}
	life, err := c.CommandStatusWithResponse(ctx, opened.JSON200.Id, nil)
	if err != nil || life.JSON200 == nil || life.JSON200.State != "completed" {
		t.Errorf("%v: %s", err, life.Body)
	}
	overview, err := c.AskCustomerOverviewWithResponse(ctx, nil, client.CustomerOverviewParameters{Customer: id})
	if err != nil || overview.JSON200 == nil || overview.JSON200.Result == nil || len(overview.JSON200.Result.Accounts) != 1 {
		t.Errorf("%v: %s", err, overview.Body)
	}
	t.Logf("%d requests and answers are as the document says", watch.n)
}
