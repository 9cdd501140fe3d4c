package credits

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
)

func usd(cents int64) money.Money { return money.Money{Amount: cents, Currency: "USD"} }

// parent opens an account, with credits on it.
func parent(ctx context.Context, v deed.Visitor, amount int64) (string, error) {
	id := fmt.Sprintf("acc-%08x", v.Rand().Uint32())
	if err := v.Ask(ctx, "credit-account", id, "open", Open{"Parent", "USD"}); err != nil {
		return "", err
	}
	return id, v.Ask(ctx, "credit-account", id, "load", Load{usd(amount)})
}

// share is a parent who sends credits to a child: a little, too much, and now
// and then so much that somebody has to have a look at it.
var share = deed.Scenario{Name: "share", Play: func(ctx context.Context, v deed.Visitor) error {
	r := v.Rand()
	from, err := parent(ctx, v, 100_00)
	if err != nil {
		return err
	}
	to := fmt.Sprintf("acc-%08x", r.Uint32())
	if err := v.Ask(ctx, "credit-account", to, "open", Open{"Child", "USD"}); err != nil {
		return err
	}
	amounts := []int64{30_00, 90_00}
	if r.IntN(3) == 0 {
		if err := v.Ask(ctx, "credit-account", from, "load", Load{usd(2_000_00)}); err != nil {
			return err
		}
		amounts = append(amounts, 1_500_00)
	}
	for _, n := range amounts {
		if err := v.Ask(ctx, "credit-transfer", fmt.Sprintf("t-%016x", r.Uint64()), "request", Request{from, to, usd(n)}); err != nil {
			return err
		}
	}
	var b Balance
	if err := v.Look(ctx, "balances", to, &b); err != nil {
		return err
	}
	// Whoever validates transfers has a look, too.
	if err := v.Decide(ctx, "validation", choice(r)); !errors.Is(err, deed.ErrNotFound) {
		return err
	}
	return nil
}}

// shop is somebody who buys something, and has not the credits to do it again.
var shop = deed.Scenario{Name: "shop", Play: func(ctx context.Context, v deed.Visitor) error {
	r := v.Rand()
	account, err := parent(ctx, v, 20_00)
	if err != nil {
		return err
	}
	merchant := fmt.Sprintf("shop-%d", r.IntN(20))
	if err := v.Ask(ctx, "merchant", merchant, "register", Register{merchant, "USD"}); err != nil { // refused: it is
		return err
	}
	for range 2 {
		if err := v.Ask(ctx, "merchant", merchant, "sell", Sale{account, usd(11_00 + int64(r.IntN(9_00)))}); err != nil {
			return err
		}
	}
	return nil
}}

func choice(r *rand.Rand) string {
	if r.IntN(4) == 0 {
		return "reject"
	}
	return "approve"
}
