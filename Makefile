# `make run` and `make test` are all that is needed; `make help` lists the rest.

GO     ?= go
TOOL    = $(GO) tool -modfile='$(CURDIR)/tools/go.mod'
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
FUZZTIME ?=
FUZZ_INPUTS ?= 1000000
GORELEASER ?= $(GO) run github.com/goreleaser/goreleaser/v2@v2.16.0
VULNDB  ?= https://vuln.go.dev
# How many of the tests that need servers run at once: of each package, and packages. Two cores are busy with these; with more, a
# server may get so little of them that its calls come too late, are made again, and starve it for good.
PARALLEL ?= 4
PACKAGES ?= 2
LDFLAGS = -X main.version=$(VERSION)

.DEFAULT_GOAL := help
.PHONY: help run cluster build test test-quick test-unit test-race test-system test-e2e test-portal pictures test-faults test-bench test-deps fresh soak fuzz fuzz-numbered bench scale profile generate check-generated check-api lint fmt vuln sbom pin-images release-snapshot tidy clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## Run everything: private Postgres, Temporal, its Web UI, API and worker; Ctrl-C stops
	@exec bin/standalone

cluster: build ## Run everything as on several machines, each of which can fail by itself; Ctrl-C stops (needs root on Linux, HAProxy)
	@exec bin/standalone cluster $(addprefix --haproxy ,$(wildcard bin/tools/haproxy))

build: bin/mathub-webhooks bin/standalone ## Build the binaries into bin/

bin/mathub-webhooks: FORCE
	@$(GO) build -ldflags '$(LDFLAGS)' -o $@ .

bin/standalone: FORCE
	@test -e $@ || echo "Building the embedded Temporal server: the first time this takes 5 to 10 minutes and 3 GB for Go's caches, later seconds."
	@cd standalone && GO='$(GO)' ../tools/build.sh 1800 -ldflags '$(LDFLAGS)' -o ../$@ .

.PHONY: FORCE
FORCE:

test: ## Run every test, on Postgres and Temporal servers started for them
	@$(MAKE) -j 2 test-deps test-unit
	@$(MAKE) test-system

# Without what debuggers read, which most of the time of linking a test goes into, and without vet, which make lint runs.
GOTEST = $(GO) test -ldflags=-w -vet=off

# Those that need no Temporal server.
QUICK = $$($(GO) list ./... | grep -v -E '/(api|emit|outbox|worker|app|searchattr|ops|operators)$$')

test-quick: bin/standalone ## Run the tests that need no Temporal server and take no long time
	bin/standalone with-servers --no-temporal -- $(GOTEST) -short -p 4 -parallel 8 $(QUICK)

# All tests are compiled before servers start: beside a compiler on each core, Temporal takes many seconds for a start.
COMPILE = $(GO) list -test -export

# The packages that take longest come first, and one that computes beside those that wait. More at once take no less time on two
# cores, and Temporal answers each later.
test-unit: bin/standalone ## Run the tests of the product's packages
	@$(COMPILE) ./... >/dev/null
	bin/standalone with-servers -- $(GOTEST) -timeout 20m -p $(PACKAGES) -parallel $(PARALLEL) ./worker ./api ./internal/egress ./internal/simulation ./internal/history ./db ./...

# Where no goroutines meet, the race detector finds nothing, and makes a computation five times as slow.
SEQUENTIAL = "/(webhooks|webhook|workflows|cli|docs|clients/go|gentypes|portal|operators|admission|codec|openfiles|ops|pages|problem|settings|simulation)$$"

test-race: bin/standalone ## Run the tests of the packages where goroutines meet, with the race detector, as CI does
	@GO='$(GO)' tools/test-deps.sh compiler
	@$(COMPILE) -race ./... >/dev/null
	bin/standalone with-servers -- sh -c '$(GOTEST) -race -timeout 20m -p $(PACKAGES) -parallel $(PARALLEL) ./worker ./api $$($(GO) list ./... | grep -v -E $(SEQUENTIAL) | grep -v -E "/(worker|api)$$")'

test-deps: ## Find what the tests need, or install it: Node, Python with Flask, FastAPI and Django, PgBouncer, nginx, Caddy, Chromium, HAProxy, curl, git, npm packages
	@GO='$(GO)' tools/test-deps.sh

# -count=1: what they test is a program that Go's test cache does not see. Much of their time they wait: for a restart, a retry,
# a browser. So several run at once. In the short form no test measures what others running beside it would change.
SYSTEM = cd standalone && TESTKIT_BINARY='$(CURDIR)/bin/mathub-webhooks' TESTKIT_STANDALONE='$(CURDIR)/bin/standalone' $(GOTEST) -count=1

# The faults take as long as all the others together, which run beside them.
test-system: build test-deps ## Run test-faults beside test-e2e and test-portal
	@cd standalone && $(COMPILE) ./... >/dev/null
	$(SYSTEM) -timeout 25m -p $(PACKAGES) -parallel $(PARALLEL) ./faults ./e2e ./portal $$($(GO) list ./... | grep -v -E '/(e2e|portal|faults|bench)$$')

test-e2e: build test-deps ## Run the end-to-end tests: the product's processes, its examples and docs
	$(SYSTEM) -timeout 20m -p $(PACKAGES) -parallel $(PARALLEL) ./e2e $$($(GO) list ./... | grep -v -E '/(e2e|portal|faults|bench)$$')

test-portal: build test-deps ## Run the portal's tests in a real browser; MATHUB_SHOTS=folder keeps pictures
	$(SYSTEM) -timeout 10m -parallel $(PARALLEL) ./portal

pictures: build test-deps ## Make the docs' pictures of the portal and of the operators' pages again
	cd standalone && MATHUB_PICTURES='$(CURDIR)/docs/images' $(GO) test -count=1 -run 'TestPictures|TestOperatorsPages' ./portal

test-bench: build test-deps ## Run the short form of what make bench measures, which shows that it works
	$(SYSTEM) -timeout 10m ./bench

test-faults: build test-deps ## Run the fault tests: what is killed, cut off or hangs loses nothing
	$(SYSTEM) -timeout 25m -parallel $(PARALLEL) ./faults

fresh: ## Do make run and make test on a minimal Debian in a folder, as a new user and as root (needs root, an hour)
	@tools/fresh.sh

soak: build test-deps ## Break it for up to three hours: the long forms of the simulation, of counters, of incidents, of the pages' speed and of the fault tests
	MATHUB_SOAK=1 $(GO) test -count=1 -timeout 3h ./internal/simulation
	cd standalone && MATHUB_SOAK=1 $(GO) test -count=1 -timeout 1h -v ./linearizable
	MATHUB_SOAK=1 bin/standalone with-servers --no-temporal -- $(GO) test -count=1 -timeout 1h -v -run TestEveryPageIsFast ./portal
	MATHUB_SOAK=1 bin/standalone with-servers -- $(GO) test -count=1 -timeout 1h -v -run TestEveryPageIsFast ./operators
	MATHUB_SOAK=1 bin/standalone with-servers -- $(GO) test -count=1 -timeout 1h -run 'TestNaughty|TestManyWebhooksOfAnIncident' ./api ./worker
	bin/standalone with-servers -- env GO='$(GO)' tools/fuzz-numbered.sh 1000000
	cd standalone && MATHUB_SOAK=1 $(GO) test -count=1 -timeout 3h -parallel 4 -v ./faults

fuzz: bin/standalone ## Fuzz every target, or those of the package FUZZ, for FUZZTIME; unless told 100,000 to 300,000 inputs each, or 25s with servers
	bin/standalone with-servers -- env GO='$(GO)' tools/fuzz.sh '$(FUZZTIME)' $(FUZZ)

fuzz-numbered: bin/standalone ## Fuzz each API target with FUZZ_INPUTS inputs, a million unless told, and others with some of that; FUZZ_FROM goes on at an input
	bin/standalone with-servers -- env GO='$(GO)' MATHUB_FUZZ_FROM=$(FUZZ_FROM) tools/fuzz-numbered.sh $(FUZZ_INPUTS)

bench: build ## Measure the product beside its yardsticks, for an hour, and draw docs/bench.svg
	cd standalone && MATHUB_BENCH=1 $(GO) test -count=1 -timeout 1h -v -run TestMeasure ./bench -figures '$(CURDIR)/docs/bench.json' -plot '$(CURDIR)/docs/bench.svg'
	cd standalone && MATHUB_BENCH=1 $(GO) test -count=1 -timeout 1h -v -run 'TestScale|TestMemory|TestOverload' ./bench

scale: build test-deps ## Measure what a process of each kind carries, and two and three of them, on the layout of several machines (needs root on Linux)
	cd standalone && MATHUB_BENCH=1 $(GO) test -count=1 -timeout 1h -v -run TestClusterScale ./bench

profile: build ## Show where processor time goes while events come in; keeps the profiles in bin/profiles
	cd standalone && MATHUB_BENCH=1 $(GO) test -count=1 -timeout 10m -v -run TestProfile ./bench -profiles '$(CURDIR)/bin/profiles'

generate: ## Make the generated code again: SQL queries, API server and client, types and docs of events
	$(TOOL) sqlc generate
	$(GO) generate ./...

check-generated: generate ## Prove that the generated code is current
	@git diff --exit-code -- db api clients emit docs/events.md && test -z "$$(git status --porcelain -- db api clients emit docs/events.md)" || { echo "generated code is out of date: run make generate and commit it"; exit 1; }

check-api: ## Prove that the API's document breaks nothing that the last release promised
	@GO='$(GO)' tools/check-api.sh

lint: ## Run the linters on both modules
	$(TOOL) golangci-lint run --allow-parallel-runners ./...
	cd standalone && $(TOOL) golangci-lint run --allow-parallel-runners --config ../.golangci.yml ./...

fmt: ## Format the code
	$(TOOL) golangci-lint fmt ./...
	cd standalone && $(TOOL) golangci-lint fmt --config ../.golangci.yml ./...

vuln: ## Look for known vulnerabilities in what both modules call (needs internet, or a copy of the database in VULNDB)
	$(TOOL) govulncheck -db $(VULNDB) ./...
	cd standalone && $(TOOL) govulncheck -db $(VULNDB) ./...

sbom: ## Write what the binaries are made of, in CycloneDX's form, into bin/
	@mkdir -p bin
	$(TOOL) cyclonedx-gomod app -json -licenses -main . -output bin/mathub-webhooks.cdx.json .
	cd standalone && $(TOOL) cyclonedx-gomod app -json -licenses -main . -output ../bin/standalone.cdx.json .

pin-images: ## Pin the images of docker-compose.yml and the Dockerfile by digest (needs docker and internet)
	@tools/pin-images.sh

release-snapshot: ## Make what a release would hold, into dist/, without publishing it, and check it
	$(GORELEASER) release --snapshot --clean --skip=ko
	@tools/check-release.sh

tidy: ## Tidy the modules
	$(GO) mod tidy
	cd standalone && $(GO) mod tidy
	cd tools && $(GO) mod tidy

clean: ## Remove the binaries; what make run stored stays in .data
	rm -rf bin
