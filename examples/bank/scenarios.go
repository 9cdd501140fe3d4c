package bank

import (
	"context"
	"fmt"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
)

func cad(cents int64) money.Money { return money.Money{Amount: cents, Currency: "CAD"} }

// transact is a customer who puts money into one account, moves some of it to
// another, and wants more than there is.
var transact = deed.Scenario{Name: "transact", Play: func(ctx context.Context, v deed.Visitor) error {
	r := v.Rand()
	id := fmt.Sprintf("c-%08x", r.Uint32())
	create := CreateCustomer{"Customer", id, fmt.Sprintf("customer%d@example.org", r.IntN(100_000))}
	if err := v.Ask(ctx, "customer", id, "create", create); err != nil { // refused if the address is taken
		return err
	}
	accounts := []string{id + "-1", id + "-2"}
	for _, a := range accounts {
		if err := v.Ask(ctx, "account", a, "open", NewAccount{id, "CAD"}); err != nil {
			return err
		}
	}
	if err := v.Ask(ctx, "account", accounts[0], "deposit", Deposit{Amount: cad(71_00)}); err != nil {
		return err
	}
	for _, n := range []int64{42_00, 42_00} { // the second one fails
		transfer := Initiate{From: accounts[0], To: accounts[1], Amount: cad(n)}
		if err := v.Ask(ctx, "money-transfer", fmt.Sprintf("m-%016x", r.Uint64()), "initiate", transfer); err != nil {
			return err
		}
	}
	return v.Ask(ctx, "account", accounts[1], "withdraw", Withdraw{Amount: cad(1000_00)}) // refused
}}
