package cli

import (
	"github.com/spf13/cobra"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/store/mem"
)

func (a *app) openAPI() *cobra.Command {
	return &cobra.Command{
		Use:   "openapi",
		Short: "Print the OpenAPI 3.1 document of the HTTP API of this program",
		Long: `Print the OpenAPI 3.1 document of the HTTP API of this program: its commands,
states, views, queries and sagas. It needs neither a server nor a store; a
server has the same document at /v1/openapi.json.`,
		Example: `  deed openapi > openapi.json
  oapi-codegen -generate types,client -package client openapi.json > client.go
  npx openapi-typescript openapi.json -o api.d.ts`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error { return a.printOf(httpapi.OpenAPI) },
	}
}

func (a *app) asyncAPI() *cobra.Command {
	return &cobra.Command{
		Use:   "asyncapi",
		Short: "Print the AsyncAPI 3.0 document of the topics of this program",
		Long: `Print the AsyncAPI 3.0 document of the topics of this program: a channel for each
topic, a message for each type of public events, with its schema. It needs
neither a server nor a store; a server has the same document at
/v1/asyncapi.json.`,
		Example: `  deed asyncapi > asyncapi.json`,
		Args:    args(cobra.NoArgs),
		RunE:    func(*cobra.Command, []string) error { return a.printOf(httpapi.AsyncAPI) },
	}
}

// printOf prints a document of the program's domains, which do not run.
func (a *app) printOf(document func(*deed.Runtime, string) ([]byte, error)) error {
	rt, err := a.still()
	if err != nil {
		return err
	}
	text, err := document(rt, programVersion())
	if err != nil {
		return err
	}
	a.print("%s", text)
	return nil
}

// still is a runtime of the program's domains that does nothing.
func (a *app) still() (*deed.Runtime, error) {
	return deed.New(mem.New(), deed.Config{Domains: a.domains})
}
