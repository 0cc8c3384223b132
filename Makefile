# SPDX-License-Identifier: Apache-2.0
# What needs root asks for it with sudo; nothing else does.

CACHE   := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sheetbend
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
SUDO    := $(if $(filter 0,$(shell id -u)),,sudo -E)
# Which kernels `make test-kernels` boots: empty for all of bpf/kerneltest's table, or "5.10,6.12".
KERNELS ?=
# Of each fuzz target: a time, or a number of inputs as in 20000x.
FUZZTIME ?= 5m
# How long each case of `make test-chaos` goes on, and `make soak`.
CHAOS ?= 2m
SOAK ?= 30m
# Debian packages that some targets need.
GUEST_PACKAGES     := qemu-system-x86 qemu-system-arm busybox-static xz-utils
AGENT_PACKAGES     := nodejs npm
CHANGE_PACKAGES    := git rsync vim tar make nodejs npm python3
REPORT_PACKAGES    := chromium fonts-dejavu-core
PACKAGE_PACKAGES   := mmdebstrap qemu-system-x86 busybox-static dpkg
CONTAINER_PACKAGES := containerd runc podman conmon crun systemd jq busybox-static

.DEFAULT_GOAL := help

.PHONY: help
help: ## show the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 28

.PHONY: build
build: ## bin/sheetbend; needs Go only, the BPF object is committed
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-X main.version=$(VERSION)' -o bin/sheetbend ./cmd/sheetbend

# Where the image is to be found, and how old its files are: the same commit gives the same image.
IMAGE ?= ghcr.io/sheetbend/sheetbend:$(VERSION)
IMAGE_TAR ?= $(CURDIR)/bin/sheetbend-image.tar
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)

# bin/linux-ARCH/sheetbend, of all architectures.
.PHONY: binaries
binaries:
	set -e; for arch in amd64 arm64; do \
		CGO_ENABLED=0 GOOS=linux GOARCH=$$arch go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)' -o bin/linux-$$arch/sheetbend ./cmd/sheetbend; \
	done

.PHONY: release
release: binaries ## bin/release: archives, debs and rpms for amd64 and arm64, their bills of materials, checksums; needs Go and jq
	set -e; for arch in amd64 arm64; do \
		GOARCH=$$arch $(MAKE) -s sbom SBOM=bin/linux-$$arch/sbom.json; \
	done
	cd deploy/packages && SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) go run . -version $(VERSION) -out $(CURDIR)/bin/release -top $(CURDIR) \
		$(CURDIR)/bin/linux-amd64 $(CURDIR)/bin/linux-arm64

.PHONY: image
image: binaries ## bin/sheetbend-image.tar: the container image for amd64 and arm64, an OCI archive; needs Go only. IMAGE=registry/name:tag
	cd deploy && SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) go run ./image -name $(IMAGE) -version $(VERSION) -revision "$$(git rev-parse HEAD 2>/dev/null)" \
		-out $(IMAGE_TAR) ../bin/linux-amd64/sheetbend ../bin/linux-arm64/sheetbend

.PHONY: demo
demo: build ## watch a small scripted agent in whose session something goes wrong, and print its story
	@SUDO='$(SUDO)' testdata/demo/run.sh

.PHONY: demo-jaeger
demo-jaeger: build ## the same, sent to the Jaeger that JAEGER=URL names, else to one that is started; needs curl
	@SUDO='$(SUDO)' testdata/demo/jaeger.sh testdata/demo/run.sh

.PHONY: generate
generate: ## rebuild the BPF object and its Go bindings; needs clang-19 and llvm-strip-19
	go generate ./bpf

.PHONY: test
test: ## unit tests, replays of recorded agents, kernel tests, `run` end to end: needs Go and root, five minutes
	.ci/test

.PHONY: test-all
test-all: ## everything, with what it needs installed (apt, npm): guests, containers, agents, Jaeger, chaos, fuzz, arm64. Hours
	.ci/packages clang-19 llvm-19 libbpf-dev $(GUEST_PACKAGES) $(AGENT_PACKAGES) $(CONTAINER_PACKAGES) $(CHANGE_PACKAGES) $(REPORT_PACKAGES) gcc libc6-dev
	.ci/test check
	$(MAKE) lint lint-deploy supply-chain test test-race test-storms test-evasion test-report test-manifests test-gateway test-packages fuzz-short
	.ci/test agents-table
	RACE=1 $(MAKE) test-agents test-jaeger test-containers test-upgrade verify-changes test-chaos CHAOS=$(CHAOS)
	$(MAKE) soak SOAK=1m
	$(MAKE) test-microvm test-kernels test-kernels-arm64

.PHONY: test-race
test-race: ## the packages with goroutines under the race detector; needs gcc
	.ci/test race

.PHONY: test-storms
test-storms: ## thousands of processes at once, and a million one after the other
	.ci/test test-storms

.PHONY: test-agents
test-agents: ## Codex and Claude Code, pinned, under the real sensor against a scripted model; needs root, npm, 800 MB
	.ci/test test-agents

.PHONY: agents-table
agents-table: ## the table of docs/agents.md, measured anew with all agents that can be installed; needs root, npm, 3 GB
	SHEETBEND_AGENTS_TABLE=$(CURDIR)/docs/agents.md .ci/test agents-table

.PHONY: test-jaeger
test-jaeger: ## the trees as Jaeger shows them; needs root, npm; builds Jaeger the first time
	.ci/test test-jaeger

.PHONY: test-report
test-report: ## the report in a real Chromium: keyboard, screen reader, hostile sessions, 20,000 spans; UPDATE=1 writes docs/report.png
	.ci/packages $(REPORT_PACKAGES)
	$(if $(UPDATE),go test -count=1 ./exporters/report -run TestInChromiumARecordedSession -update,.ci/test test-report)

.PHONY: test-containers
test-containers: ## real containerd and podman under the real sensor; needs root and the packages of CONTAINER_PACKAGES
	.ci/test test-containers

.PHONY: verify-changes
verify-changes: ## what is told of real tools and random programs, against their trees before and after; needs root and the packages of CHANGE_PACKAGES. SHEETBEND_PROGRAMS=400, SHEETBEND_SEED=7
	.ci/packages $(CHANGE_PACKAGES)
	.ci/test verify-changes

.PHONY: test-manifests
test-manifests: ## the chart and the kustomization against the types of Kubernetes; UPDATE=1 writes deploy/testdata anew
	$(if $(UPDATE),cd deploy && go test -count=1 . -update,.ci/test test-manifests)

.PHONY: test-packages
test-packages: ## packages on a Debian with systemd, in a QEMU guest: installed, upgraded, removed, purged; needs root and the packages of PACKAGE_PACKAGES
	.ci/packages $(PACKAGE_PACKAGES)
	.ci/test test-packages

.PHONY: test-gateway
test-gateway: ## the values of deploy/collector under the collectors of OpenTelemetry themselves: what says something gets through
	.ci/test test-gateway

.PHONY: test-chaos
test-chaos: ## break disk, backend and sensor under load and account for every span; needs root. CHAOS=2m for each case
	SHEETBEND_CHAOS=$(CHAOS) .ci/test test-chaos -timeout 0

.PHONY: test-upgrade
test-upgrade: ## replace the sensor of an earlier commit by this one, and the other way round; needs root and the history
	.ci/test test-upgrade

.PHONY: soak
soak: ## whether the sensor stays as small as it was; needs root. SOAK=72h
	SHEETBEND_SOAK=$(SOAK) .ci/test soak -timeout 0

.PHONY: compat-table
compat-table: ## the table of docs/compat.md, measured anew with strace and sudo; needs root
	.ci/packages strace sudo
	go test -count=1 ./cmd/sheetbend -run '^TestTheWrapperIsAsTheTableSays$$' $(if $(SUDO),-exec '$(SUDO)') -update

.PHONY: test-kernels
test-kernels: ## the kernel tests in QEMU guests; KERNELS=5.10,6.12 for some of them, RUN=Workload for the tests of bpf with that in their name
	go run ./bpf/kerneltest $(if $(KERNELS),-kernels $(KERNELS)) $(if $(RUN),-run '$(RUN)' ./bpf)

.PHONY: test-kernels-arm64
test-kernels-arm64: ## the same on emulated arm64 machines
	go run ./bpf/kerneltest -arch arm64 $(if $(KERNELS),-kernels $(KERNELS)) $(if $(RUN),-run '$(RUN)' ./bpf)

.PHONY: test-microvm
test-microvm: ## the sensor in a virtual machine with an agent, its spans outside; needs QEMU, downloads a kernel
	.ci/test test-microvm

.PHONY: kernels-table
kernels-table: ## run both and write docs/kernels.md
	go run ./bpf/kerneltest -write $(if $(KERNELS),-kernels $(KERNELS))
	go run ./bpf/kerneltest -write -arch arm64 $(if $(KERNELS),-kernels $(KERNELS))

.PHONY: test-evasion
test-evasion: ## ways not to be seen, and attacks on the sensor (docs/evasion.md); SHEETBEND_FLOOD_FACTOR=40 for a million files
	go test -count=1 -run 'Trick|Loader|ThreadThatLeaves|SeenOrCounted|FullTable' $(if $(SUDO),-exec '$(SUDO)') ./bpf

.PHONY: bench-versions
bench-versions: ## what operations and commands take under this tree's sensor and under an earlier one (root, npm)
	go build -o /tmp/sheetbend-bench ./cmd/sheetbend
	SHEETBEND_EARLIER=$$(.ci/earlier) SHEETBEND_BIN=/tmp/sheetbend-bench go test ./bpf -timeout 60m -run '^$$' -bench Versions \
		-benchtime 7x $(if $(SUDO),-exec '$(SUDO)')

.PHONY: bench
bench: ## benchmarks of the collector, the exporters and the hooks
	go test -run '^$$' -bench . -benchmem $(if $(SUDO),-exec '$(SUDO)') ./...

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME each; FUZZ=Answers for those with that in their name
	.ci/fuzz $(FUZZTIME) $(FUZZ)

.PHONY: fuzz-short
fuzz-short: ## every fuzz target for 10,000 inputs; CI does 1,000
	.ci/fuzz 10000x

SBOM ?= bin/sbom.json

.PHONY: sbom
sbom: ## bin/sbom.json: what is in the binary, with versions, checksums and licences (CycloneDX)
	@mkdir -p bin
	CGO_ENABLED=0 .ci/tool cyclonedx-gomod app -json -licenses -std -noserial -notimestamp -main cmd/sheetbend -output $(SBOM).found .
	@# The detector takes the licence of the BPF sources, which are under either, for that of the program.
	@jq '.metadata.component |= (del(.evidence) | .licenses = [{license: {id: "Apache-2.0"}}] | .version = "$(VERSION)")' $(SBOM).found >$(SBOM)
	@rm $(SBOM).found

.PHONY: govulncheck
govulncheck: ## known vulnerabilities in what is called; asks vuln.go.dev, or the mirror that GOVULNDB names
	.ci/govulncheck

.PHONY: supply-chain
supply-chain: ## licences, bill of materials, and the same binary from two builds
	.ci/supply-chain

.PHONY: lint
lint: ## golangci-lint, built once into the cache
	.ci/golangci-lint run ./...

.PHONY: lint-deploy
lint-deploy: ## the same for the modules of deploy, which compile Helm and the collectors of OpenTelemetry
	cd deploy && ../.ci/golangci-lint run ./...
	cd deploy/collector && ../../.ci/golangci-lint run ./...
	cd deploy/packages && ../../.ci/golangci-lint run ./...

.PHONY: jaeger
jaeger: ## build Jaeger into the cache and print where it is
	@.ci/jaeger

.PHONY: agents
agents: ## install the real agents of the tests into the cache and print where they are
	@.ci/agents

.PHONY: clean
clean: ## remove bin; the cache stays in $(CACHE)
	rm -rf bin
