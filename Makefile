# Every target has a line of help; `make` prints them.
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2

# SQLite and its C library are C, translated to Go, and their memory is none of
# Go's: the race detector sees nothing there, and takes four times as long to do so.
# It would also check what is done with package unsafe (-d=checkptr), which libraries
# do here, and takes a tenth of the time.
WATCHED = -race -gcflags=all=-d=checkptr=0 -gcflags=modernc.org/sqlite/lib=-race=false -gcflags=modernc.org/libc/...=-race=false -gcflags=modernc.org/memory=-race=false

# For every go command, those that tests run too: what tests, programs and lint
# import is built once for all. lint vets them, and nobody opens them in a debugger.
test lint: export GOFLAGS = $(WATCHED) -vet=off -ldflags=-s

# Many tests wait for servers and disks most of the time: three packages at once
# keep two cores busy. Those that take longest begin first.
FIRST = ./store/postgres ./cli . ./store/jetstream ./store/sqlite

# A program that is watched for races waits a second before it ends, should
# there be another; the tests start hundreds.
export GORACE = atexit_sleep_ms=10

# A watched program is slow in looking for garbage, and the tests make little.
test: export GOGC = 400

.PHONY: help
help: ## show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

.PHONY: test
# The simulations are built without the other tests, and what those import.
test: needs ## everything, with the race detector, and 2,000 simulations without: the one test command
	@.ci/gotest -p 3 -timeout 20m $(FIRST) ./...
	cd clienttest && go test -mod=mod ./...
	GOFLAGS= go test -run '^TestSimulations$$' $$(go list -f '{{join .GoFiles " "}}' .) sim_*_test.go

.PHONY: needs
needs: ## install what the tests need and this machine lacks (Debian, root)
	@.ci/needs

.PHONY: quick
quick: ## the tests without the race detector and without the slow ones
	go test -short ./...

.PHONY: lint
lint: export GOGC = 400
lint: ## gofmt, vet and staticcheck
	@test -z "$$(gofmt -l .)" || { echo "not formatted:"; gofmt -l .; exit 1; }
	go vet ./...
	go run -race=false $(STATICCHECK) ./...

.PHONY: demo
demo: ## run the examples and a simulator on http://localhost:8080
	go run ./cmd/deed demo

.PHONY: maps
maps: ## write docs/maps.md, the diagrams of the examples, anew
	go run ./cmd/deed map --store mem: --markdown > docs/maps.md.new
	mv docs/maps.md.new docs/maps.md

.PHONY: client
client: ## generate the Go client of the bank in clienttest anew
	cd clienttest && go test -mod=mod -run TestClientIsGenerated . -update

.PHONY: deliveries
deliveries: ## 180 kills between append and delivery to webhooks, a queue and three brokers, receivers from hell next door, late subscribers of a million events by webhook and JetStream
	go test -run TestKilledBetweenAppendAndDelivery -v -timeout 30m ./internal/webhook -kills 20
	go test -run TestHellNextDoor -v -timeout 30m ./internal/webhook -hell
	go test -run TestSpeed -v -timeout 30m ./internal/webhook -speed 1000000
	go test -run TestSpeed -v -timeout 30m ./internal/broker/nats -speed 1000000

.PHONY: bench
bench: ## measure against the disk of this machine
	go run ./cmd/deed bench

.PHONY: bench-sagas
bench-sagas: ## an order saga in deed beside DBOS and go-workflows, 20 minutes (see bench/README.md)
	cd bench && go run ./sagas

.PHONY: fuzz
fuzz: ## fuzz every decoder for a minute each
	@for p in $$(go list ./...); do for f in $$(go test -list '^Fuzz' $$p | grep ^Fuzz); do \
		go test -run '^$$' -fuzz "^$$f$$" -fuzztime 1m $$p || exit 1; done; done

.PHONY: powercuts
powercuts: ## 200 power cuts under SQLite, 30 under JetStream (needs root and loop mounts)
	go test -run TestPowerCut -timeout 30m ./store/sqlite -powercuts 200
	go test -run TestPowerCut -timeout 30m ./store/jetstream -powercuts 30

.PHONY: queries
queries: ## 64 clients ask for a minute while others write; 2,000 recorded queries are broken off; the past is asked about 5,000 times
	go test -v -timeout 30m -run 'TestNoAnswerIsStale|TestRunsAreResumed' . -querytime 60s -queryclients 64 -queryruns 2000 -laterfacts 10000
	go test -v -timeout 30m -run TestThePastIsAsItWas . -pastaskings 5000 -pastseed 2

.PHONY: everywhere
everywhere: ## the whole contract by way of deed verify on every store, 100 races for each address
	go test -v -timeout 30m -run 'TestVerify$$' ./cli -verifyall
	go test -v -timeout 30m -run 'TestOverHTTP' ./examples/conference -races 100

.PHONY: reads
reads: ## 1,000,000 reads of views and groups on all stores, most of them odd: each is answered as asked, or refused
	go test -v -timeout 2h -run TestReadsAreWhatIsAsked ./httpapi -readfuzz 340000

.PHONY: outages
outages: ## nodes killed, frozen and failed over, and no database for 30 s, at 1,000 commands a second
	go test -v -timeout 30m -run 'TestNodesShareTheWork|TestFrozenNodesAreFenced|TestNodesSurviveFailover|TestDatabaseAway' \
		./cli -load 1000 -nodekills 20 -freezes 30 -failovers 10 -away 30s

.PHONY: rebuilds
rebuilds: ## a view of 1,000,000 events rebuilt at 1,000 events a second, killed twice; switches over nodes by many seeds
	go test -v -timeout 30m -run "TestRebuildUnderLoad|TestVersionOnEachStore" . -rebuildevents 1000000
	go test -v -timeout 30m -run TestSwitchOverNodes ./internal/engine -switchseeds 200

.PHONY: chaos
chaos: ## 20,000 sagas and 20,000 processes killed 40 times, 100,000 timers over 50 restarts, on SQLite and PostgreSQL
	go test -v -timeout 3h -run TestSagasSurviveKills . -parallel 1 -sagas 20000 -kills 40
	go test -v -timeout 1h -run TestManyTimers . -timers 100000 -timer-rate 250 -timer-restarts 0 -timer-lateness 1s
	go test -v -timeout 1h -run TestManyTimers . -timers 100000 -timer-rate 250 -timer-restarts 50 -timer-store postgres
