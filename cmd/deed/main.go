// Command deed runs deed's example domains. Your own program looks the same:
// copy this file and name your domains.
package main

import (
	"log"
	"os"
	"time"

	"github.com/deed-dev/deed/cli"
	"github.com/deed-dev/deed/examples/bank"
	"github.com/deed-dev/deed/examples/conference"
	"github.com/deed-dev/deed/examples/credits"
	"github.com/deed-dev/deed/examples/farm"
	"github.com/deed-dev/deed/examples/league"
	"github.com/deed-dev/deed/examples/orders"
)

func main() {
	cli.Main(orders.Domain, credits.Credits{FraudCheck: fraudCheck()}.Domain(), bank.Domain, conference.Domain, farm.Domain, league.Domain)
}

// fraudCheck is how long transfers of credits wait for the program in
// examples/credits/fraudcheck, for example CREDITS_FRAUD_CHECK=10s; else nobody
// runs it.
func fraudCheck() time.Duration {
	text := os.Getenv("CREDITS_FRAUD_CHECK")
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		log.Fatalf("CREDITS_FRAUD_CHECK is a duration like 10s: %v", err)
	}
	return d
}
