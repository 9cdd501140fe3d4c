package bank

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/deed-dev/deed"
)

// Customer is what a decision about a customer depends on.
type Customer struct {
	Email    string   `json:"email"` // "" = there is no such customer
	Accounts []string `json:"accounts,omitempty"`
}

// What can happen to a customer.
type (
	CustomerCreated struct {
		FirstName string `json:"first_name"`
		LastName  string `json:"last_name"`
		Email     string `json:"email"`
	}
	AccountAdded struct {
		Account string `json:"account"`
	}
)

func (e CustomerCreated) Apply(c *Customer) { c.Email = e.Email }
func (e AccountAdded) Apply(c *Customer) {
	c.Accounts = append(slices.Clip(c.Accounts), e.Account)
}

// Claims makes an address that of one customer.
func (e CustomerCreated) Claims() []deed.Claim {
	return []deed.Claim{{Scope: "customer-email", Value: strings.ToLower(e.Email), Taken: deed.Reason{Code: ErrEmailTaken.Code, Text: fmt.Sprintf("email '%s' already exists", e.Email)}}}
}

// CreateCustomer makes a customer.
type CreateCustomer CustomerCreated

// addAccount notes an account.
type addAccount AccountAdded

// ErrEmailTaken is why somebody may not become a customer; the text they see says
// which address it is.
var ErrEmailTaken = deed.Reason{Code: "email_taken", Text: "A customer with this e-mail already exists"}

func (c CreateCustomer) Validate() error {
	errs := []error{deed.Required("first_name", strings.TrimSpace(c.FirstName)), deed.Required("last_name", strings.TrimSpace(c.LastName))}
	if name, host, ok := strings.Cut(strings.TrimSpace(c.Email), "@"); !ok || name == "" || host == "" {
		errs = append(errs, deed.Invalid{Field: "email", Detail: "must be an e-mail address"})
	}
	return errors.Join(errs...)
}

func (c CreateCustomer) Decide(cu Customer) ([]deed.Event[Customer], error) {
	if cu.Email != "" {
		return nil, deed.ErrExists
	}
	c.Email = strings.TrimSpace(c.Email)
	return []deed.Event[Customer]{CustomerCreated(c)}, nil
}

func (c addAccount) Decide(cu Customer) ([]deed.Event[Customer], error) {
	switch {
	case cu.Email == "":
		return nil, deed.ErrNotFound
	case slices.Contains(cu.Accounts, c.Account):
		return nil, nil
	}
	return []deed.Event[Customer]{AccountAdded(c)}, nil
}

// Customers is the vocabulary of customers.
var Customers = deed.Aggregate[Customer]{
	Name:     "customer",
	Doc:      "Somebody who has accounts.",
	Events:   map[string]deed.Event[Customer]{"created": CustomerCreated{}, "account-added": AccountAdded{}},
	Commands: map[string]deed.Command[Customer]{"create": CreateCustomer{}},
	Internal: map[string]deed.Command[Customer]{"add-account": addAccount{}},
}

// NewAccount is an account that a customer wants.
type NewAccount struct {
	Customer string `json:"customer"`
	Currency string `json:"currency"`
}

// Validate implements the check of what is asked.
func (c NewAccount) Validate() error {
	return errors.Join(deed.Required("customer", c.Customer), checkCurrency("currency", c.Currency))
}

// OpenAccount opens an account and notes it with the customer: both, or neither.
var OpenAccount = deed.Stepwise[NewAccount]{
	Name:  "account.open",
	Doc:   "Opens an account of a customer.",
	Rules: tellers,
	Steps: []deed.Step[NewAccount]{{
		Name: "open",
		Do: func(ctx context.Context, w *deed.Work, c NewAccount) error {
			return w.AskTogether(ctx,
				deed.Send(Customers, c.Customer, addAccount{w.ID}),
				deed.Send(Accounts, w.ID, create(c)))
		},
	}},
}
