# Every target says what it does: make help
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

GO       ?= go
FUZZTIME ?= 30s
GOLANGCI ?= github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
VULN     ?= golang.org/x/vuln/cmd/govulncheck@v1.9.0
APIDIFF  ?= golang.org/x/exp/cmd/apidiff@v0.0.0-20261113113407-e3970619a1a4

# All modules of the repository, which go.work joins, so that one go command covers their packages:
# ./... are those of the root only. Whoever has turned workspaces off, has them here.
export GOWORK := $(CURDIR)/go.work
MODULES = $(patsubst $(CURDIR)%,.%,$(shell GOWORK=$(GOWORK) $(GO) list -m -f '{{.Dir}}'))
ALL     = $(addsuffix /...,$(MODULES))

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: fmt
fmt: ## format the code (gofmt; make lint checks gofumpt too)
	gofmt -w .

.PHONY: lint
lint: ## go vet, gofmt, go mod tidy, golangci-lint (built at the pinned version: minutes, the first time)
	$(GO) vet $(ALL)
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "not gofmt'ed: $$unformatted" >&2; exit 1; fi
	@for module in $(MODULES); do (cd $$module && GOWORK=off $(GO) mod tidy -diff) || exit 1; done
	$(GO) run $(GOLANGCI) run $(ALL)

.PHONY: tidy
tidy: ## go mod tidy in each module
	@for module in $(MODULES); do echo "== $$module"; (cd $$module && GOWORK=off $(GO) mod tidy) || exit 1; done

.PHONY: api
api: ## what has changed in the exported API since the last release, and would break who uses it
	@APIDIFF=$(APIDIFF) .ci/api

.PHONY: vuln
vuln: ## known vulnerabilities in what all modules call (asks vuln.go.dev)
	$(GO) run $(VULN) $(ALL)

# The versions of RabbitMQ that tests run on, unless MOTIF_RABBITMQ is one.
VERSIONS = $(or $(MOTIF_RABBITMQ),3.10 4.0 4.3)
NEWEST   = $(lastword $(VERSIONS))
OLDER    = $(filter-out $(NEWEST),$(VERSIONS))

# Runs a command with MOTIF_RABBITMQ as each of some versions, and fails if one has.
# $(call each,VERSIONS,COMMAND)
each = @failed=; for version in $(1); do \
		export MOTIF_BROKER=require MOTIF_RABBITMQ=$$version MOTIF_VERSIONS="$(VERSIONS)"; \
		echo "== RabbitMQ $$version"; $(2) || failed=1; \
	done; test -z "$$failed"

# What runs on RabbitMQ: private nodes of it are started and ended by the tests. What takes longest
# is first, since go test begins in this order.
ON_RABBITMQ = ./adapters/amqp/... ./internal/interop ./examples/internal/onbrokers ./examples/observability ./topology ./internal/model/... ./deadletters/faults ./cmd/motif ./outbox

# What starts brokers of other kinds, and mostly waits for them: it runs beside all on RabbitMQ.
ON_OTHERS = ./adapters/jetstream/... ./adapters/kafka/...

# Two packages at a time: those on RabbitMQ run many tests beside each other already. No vet, which
# has had them all before.
RACE = $(GO) test -race -vet=off -shuffle=on -p 2 -timeout 15m

# What is promised on each version is tested on each, and on the oldest what else may differ there.
# MOTIF_RABBITMQ=4.0 make test runs all on that.
PROMISED = TestConformance|TestFaults|TestModel|TestTopics|TestForeignMessages|TestHandlerThatExits|TestConsumerTimeout|TestSubscribersComeAndGo|TestNewQueues|TestFirstConsumer|TestQueueCheck|TestGone|TestQueueGoes|TestRefused
VERSIONED = $(PROMISED)|TestCelery|TestFirstDeath|TestTriesBeginAnew|TestSuspectsOfASlowBroker|TestPassing|TestCostly|TestFewestChannels|TestWriteOnly|TestRightsLoseNothing|TestRedriveSendsLettersBackAsTheyCame|TestRepliesGoWhereTheyAreAsked|TestServePassiveWithFewRights|TestFirstContact|TestMismatch|TestPolic|TestQueuesOfDelays|TestCredentialsAreRenewed|TestReplayThroughARestart|TestKilledReplay|TestExisting|TestConsistentHash|TestMigrateSurvives|TestMigrateKeepsDelayed|TestMigratingWaits|TestBrowse|TestIsClassic|TestDeletedQueue

.PHONY: test
test: rabbitmq chromium databases kafka ## go vet, all tests on the newest RabbitMQ, with the race detector; what is promised on older ones (minutes)
# With -race, so that the tests use what is compiled for it.
	$(GO) vet -race $(ALL)
	@$(GO) build -race ./adapters/... ./patterns/... ./conformance/... # what both of these need, once
	@$(MAKE) -j 2 test-rabbitmq test-others
	@out=$$($(RACE) -run '^TestMutants$$' -v ./conformance) || { printf '%s\n' "$$out"; exit 1; }; \
		printf '%s\n' "$$out" | grep -ao 'mutants: killed .*'

.PHONY: test-rabbitmq test-others
test-rabbitmq:
	$(call each,$(NEWEST),$(RACE) -skip '^TestMutants$$' $(ON_RABBITMQ) $(filter-out $(ON_OTHERS),$(ALL)))
	$(call each,$(NEWEST),$(GO) test -vet=off -timeout 15m -run '^TestWatermillSuite$$/./^TestReconnect$$' ./internal/interop)
	$(call each,$(firstword $(OLDER)),$(RACE) -run '$(VERSIONED)' ./adapters/amqp ./adapters/amqp/faults ./internal/interop ./internal/model ./deadletters/faults ./topology)
	$(call each,$(wordlist 2,9,$(OLDER)),$(RACE) -run '$(PROMISED)' ./adapters/amqp ./adapters/amqp/faults ./internal/model)

test-others:
	@MOTIF_BROKER=require $(RACE) -p 1 $(ON_OTHERS)

.PHONY: test-memory
test-memory: kafka ## the tests that need no RabbitMQ (two minutes)
	$(GO) test -race -shuffle=on $$($(GO) list $(ALL) | grep -vxF "$$($(GO) list $(ON_RABBITMQ))")

.PHONY: rabbitmq
rabbitmq: ## install RabbitMQ where it is missing, or say how: MOTIF_RABBITMQ=4.3 one version, else all
	$(GO) run ./adapters/amqp/amqptest/cmd/broker -install

APT = DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300

.PHONY: chromium
chromium: ## install Chromium where it is missing, or say how: the page of motif web is tested in it
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || test "$$MOTIF_BROKER" = skip || \
		{ install="$(APT) install -y --no-install-recommends chromium"; \
		sh -c "$$install" || { $(APT) update && sh -c "$$install"; } || \
		{ echo "Chromium is missing: install it as root (Debian: apt-get install chromium), or set MOTIF_BROKER=skip" >&2; exit 1; }; }

.PHONY: databases
databases: ## install PostgreSQL and MariaDB where they are missing, or say how: the outbox is tested on private servers of them
	@command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || test "$$MOTIF_BROKER" = skip || \
		{ install="$(APT) install -y --no-install-recommends postgresql"; \
		sh -c "$$install" || { $(APT) update && sh -c "$$install"; } || \
		{ echo "PostgreSQL is missing: install it as root (Debian: apt-get install postgresql), or set MOTIF_BROKER=skip" >&2; exit 1; }; }
	@command -v mariadbd >/dev/null || test -x /usr/sbin/mariadbd || test "$$MOTIF_BROKER" = skip || \
		{ install="$(APT) install -y --no-install-recommends mariadb-server-core"; \
		sh -c "$$install" || { $(APT) update && sh -c "$$install"; } || \
		{ echo "MariaDB is missing: install it as root (Debian: apt-get install mariadb-server-core), or set MOTIF_BROKER=skip" >&2; exit 1; }; }

# The broker that the tests of adapters/kafka start is a folder of jars from Maven Central.
KAFKA_VERSION = $(or $(MOTIF_KAFKA),4.4.0)
KAFKA_JARS    = $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/motif/kafka-$(KAFKA_VERSION)

.PHONY: kafka
kafka: ## install Kafka where it is missing, or say how: MOTIF_KAFKA=4.2.0 another version than the newest
	@command -v java >/dev/null && { test -f "$(KAFKA_JARS).jsa" || command -v mvn >/dev/null; } || test "$$MOTIF_BROKER" = skip || \
		{ install="$(APT) install -y --no-install-recommends maven default-jre-headless"; \
		sh -c "$$install" || { $(APT) update && sh -c "$$install"; } || \
		{ echo "Java 17 or Maven is missing: install them as root (Debian: apt-get install maven default-jre-headless), or set MOTIF_BROKER=skip" >&2; exit 1; }; }
	@test -f "$(KAFKA_JARS).jsa" || test "$$MOTIF_BROKER" = skip || \
		{ rm -rf "$(KAFKA_JARS)" && mvn -q -B -f adapters/kafka/internal/node/pom.xml -Dkafka=$(KAFKA_VERSION) \
		org.apache.maven.plugins:maven-dependency-plugin:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$(KAFKA_JARS)" || \
		{ echo "Kafka $(KAFKA_VERSION) cannot be had: mvn has to reach Maven Central, or set MOTIF_BROKER=skip" >&2; exit 1; }; \
		MOTIF_KAFKA=$(KAFKA_VERSION) $(GO) run ./adapters/kafka/internal/node/prepare; }

.PHONY: broker
broker: ## a RabbitMQ node to play with, of MOTIF_RABBITMQ or the newest; prints its URLs, ends with Ctrl-C
	$(GO) run ./adapters/amqp/amqptest/cmd/broker

.PHONY: faults
faults: rabbitmq kafka ## what RabbitMQ, NATS, Kafka, the network and processes do wrong, as a table for each version with what was lost
	$(call each,$(VERSIONS),$(GO) test -count=1 -timeout 15m -run TestFaults -v ./adapters/amqp/faults)
	$(GO) test -count=1 -timeout 15m -run TestFaults -v ./adapters/jetstream/faults
	$(GO) test -count=1 -timeout 15m -run 'TestFaults|TestPartitions' -v ./adapters/kafka/faults
	MOTIF_FAULTS_ORDERED=1 $(GO) test -count=1 -timeout 15m -run TestFaults -v ./adapters/kafka/faults

SOAK ?= 10m

.PHONY: soak
soak: kafka ## something goes wrong with a cluster of NATS, and one of Kafka, every five seconds, for SOAK (10m) each: what was lost
	MOTIF_BROKER=require MOTIF_SOAK=$(SOAK) $(GO) test -p 1 -count=1 -timeout 2h -run TestSoak -v ./adapters/jetstream/faults ./adapters/kafka/faults

.PHONY: conformance
conformance: rabbitmq kafka ## the conformance suite on all adapters, versions and four peers: docs/conformance and the table on the page about adapters (minutes)
	@reports=$$(mktemp -d) && trap 'rm -rf "$$reports"' EXIT && export MOTIF_BROKER=require && \
		for adapter in jetstream kafka; do MOTIF_REPORT="$$reports/$$adapter" $(GO) test -count=1 -timeout 20m -run '^TestConformance$$' ./adapters/$$adapter || exit 1; done && \
		$(GO) run ./internal/interop/cmd/conformance -out docs/conformance -page docs/writing-an-adapter.md "$$reports/jetstream" "$$reports/kafka"

.PHONY: model
model: export MOTIF_SEQUENCES = $(SEQUENCES)
model: export MOTIF_SEED = $(SEED)
model: rabbitmq ## SEQUENCES (2000) random sequences, from SEED (1) on: is it the same in process and on each RabbitMQ?
	$(call each,$(VERSIONS),$(GO) test -count=1 -timeout 2h -run 'TestModel|TestTopics' -v ./internal/model)

.PHONY: fuzz
fuzz: ## run every fuzzer in the tree for FUZZTIME (30s) each
	@list=$$($(GO) test -list '^Fuzz' $(ALL)) || { echo "$$list" >&2; exit 1; }; \
	echo "$$list" | awk '/^Fuzz/ { name[n++] = $$1 } /^ok/ { for (i = 0; i < n; i++) print $$2, name[i]; n = 0 }' | \
	while read -r package fuzzer; do \
		echo "== $$fuzzer in $$package, $(FUZZTIME)"; \
		$(GO) test -run '^$$' -fuzz "^$$fuzzer$$" -fuzztime $(FUZZTIME) "$$package" || exit 1; \
	done

# The benchmarks are a module of their own, for their plots' sake.
BENCH = cd internal/bench && $(GO)

.PHONY: bench
bench: rabbitmq ## Motif beside the raw client and the peers on the newest RabbitMQ, with results and plots (under 20 minutes)
	$(BENCH) run . -rabbitmq $(NEWEST) -out results -page '../../docs/speed.md#bench'

.PHONY: bench-oldest
bench-oldest: rabbitmq ## the rows of bench that need RabbitMQ, on the oldest one, with fewer runs of each (a quarter of an hour)
	$(BENCH) run . -rabbitmq $(firstword $(VERSIONS)) -pairs 2 -run '^(publish|consume|handle|typed|fanout|topic|rpc|delay/[13]|retry|fail|declare|start|subscriptions)' -page '../../docs/speed.md#bench-oldest'

.PHONY: bench-cluster
bench-cluster: rabbitmq ## the publishes and the main workloads of bench on a cluster of three nodes (minutes)
	$(BENCH) run . -rabbitmq $(NEWEST) -nodes 3 -run '^(publish|consume|typed|rpc|delay/1.1s)' -page '../../docs/speed.md#bench-cluster'

.PHONY: bench-quick
bench-quick: rabbitmq ## the main workloads of bench, as a table (under a minute)
	$(BENCH) run . -quick

.PHONY: bench-memory
bench-memory: ## the in-process broker's figures, each beside its baseline (a minute)
	$(BENCH) run . -run '^(memory|growth/memory)'

.PHONY: examples
examples: ## run the takeout example, on the in-process broker
	$(GO) run ./examples/takeout

.PHONY: cover
cover: ## test coverage, by function; bin/cover.out is for go tool cover -html
	@mkdir -p bin
	$(GO) test -coverpkg=$$(echo $(ALL) | tr " " ,) -coverprofile=bin/cover.out $(ALL)
	@$(GO) tool cover -func=bin/cover.out
