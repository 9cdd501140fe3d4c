// Command sagas measures an order saga of three steps in deed beside two other
// Go libraries that run durable steps, DBOS and go-workflows: in the same run, on
// the same disk and the same PostgreSQL server. See the README in the folder
// above.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sagas:", err)
		os.Exit(1)
	}
}

// options say what to measure.
type options struct {
	systems, stores, shapes, flights list
	warm, measure                    time.Duration
	repeats                          int
	json                             string
	profiles                         string
}

// list is a flag that names several things.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(s string) error {
	*l = strings.Split(s, ",")
	return nil
}

func run(ctx context.Context, args []string) error {
	o := options{
		systems: list{"deed", "dbos", "go-workflows"}, stores: list{"sqlite", "postgres"}, shapes: list{"bare", "data"}, flights: list{"64", "1"},
	}
	flags := flag.NewFlagSet("sagas", flag.ContinueOnError)
	flags.Var(&o.systems, "systems", "what to measure")
	flags.Var(&o.stores, "stores", "what to measure it on")
	flags.Var(&o.shapes, "shapes", "bare: steps return a value; data: each writes business data")
	flags.Var(&o.flights, "flights", "how many sagas are on their way at a time")
	flags.DurationVar(&o.warm, "warm", 5*time.Second, "before each measurement")
	flags.DurationVar(&o.measure, "measure", 10*time.Second, "of each measurement")
	flags.IntVar(&o.repeats, "repeats", 3, "measurements of each cell, of which the median counts")
	flags.StringVar(&o.json, "json", "", "write all measurements to this file")
	flags.StringVar(&o.profiles, "profiles", "", "write CPU profiles into this folder")
	one := flags.String("cell", "", "measure this cell and print it as JSON: what a run calls itself with")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if *one == "" {
		return compare(ctx, o)
	}
	var c cell
	if err := json.Unmarshal([]byte(*one), &c); err != nil {
		return err
	}
	r, err := c.measure(ctx)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}
