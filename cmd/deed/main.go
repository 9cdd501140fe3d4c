// Command deed runs deed's example domains. Your own program looks the same:
// copy this file and name your domains.
package main

import (
	"github.com/deed-dev/deed/cli"
	"github.com/deed-dev/deed/examples/bank"
	"github.com/deed-dev/deed/examples/conference"
	"github.com/deed-dev/deed/examples/credits"
	"github.com/deed-dev/deed/examples/farm"
	"github.com/deed-dev/deed/examples/league"
	"github.com/deed-dev/deed/examples/orders"
)

func main() {
	cli.Main(orders.Domain, credits.Domain, bank.Domain, conference.Domain, farm.Domain, league.Domain)
}
