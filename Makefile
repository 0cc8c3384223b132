# SPDX-License-Identifier: Apache-2.0
# What needs root asks for it with sudo; nothing else does.

CACHE   := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sheetbend
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
SUDO    := $(if $(filter 0,$(shell id -u)),,sudo -E)
# Which kernels `make test-kernels` boots: empty for all of bpf/kerneltest's table, or "5.10,6.12".
KERNELS ?=
FUZZTIME ?= 10s

.DEFAULT_GOAL := help

.PHONY: help
help: ## show the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 28

.PHONY: build
build: ## bin/sheetbend; needs Go only, the BPF object is committed
	CGO_ENABLED=0 go build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/sheetbend ./cmd/sheetbend

.PHONY: demo
demo: build ## watch a small real workload and print its tree
	$(SUDO) ./bin/sheetbend run -- sh testdata/demo.sh

.PHONY: generate
generate: ## rebuild the BPF object and its Go bindings; needs clang-19 and llvm-strip-19
	go generate ./bpf

.PHONY: test
test: ## everything: vet, race, root, other kernels, Jaeger, real agents
	.ci/test

.PHONY: test-containers
test-containers: build ## real containerd and podman under the real sensor; needs root, containerd, runc, podman, busybox-static
	SHEETBEND_BIN=$(CURDIR)/bin/sheetbend go test -count=1 -v $(if $(SUDO),-exec '$(SUDO)') ./cmd/sheetbend/containerstest

.PHONY: test-kernels
test-kernels: ## the kernel tests in QEMU guests; KERNELS=5.10,6.12 for some of them
	go run ./bpf/kerneltest $(if $(KERNELS),-kernels $(KERNELS))

.PHONY: test-kernels-arm64
test-kernels-arm64: ## the same on emulated arm64 machines
	go run ./bpf/kerneltest -arch arm64 $(if $(KERNELS),-kernels $(KERNELS))

.PHONY: kernels-table
kernels-table: ## run both and write docs/kernels.md
	go run ./bpf/kerneltest -write $(if $(KERNELS),-kernels $(KERNELS))
	go run ./bpf/kerneltest -write -arch arm64 $(if $(KERNELS),-kernels $(KERNELS))

.PHONY: test-evasion
test-evasion: ## ways not to be seen, and attacks on the sensor (docs/evasion.md); SHEETBEND_FLOOD_FACTOR=40 for a million files
	go test -count=1 -run 'Trick|Loader|ThreadThatLeaves|SeenOrCounted|FullTable' $(if $(SUDO),-exec '$(SUDO)') ./bpf

.PHONY: bench
bench: ## benchmarks of the collector, the exporters and the hooks
	go test -run '^$$' -bench . -benchmem $(if $(SUDO),-exec '$(SUDO)') ./...

.PHONY: fuzz-short
fuzz-short: ## every fuzz target for FUZZTIME each
	@set -e; for package in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			echo "$$package $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

.PHONY: lint
lint: ## golangci-lint, built once into the cache
	.ci/golangci-lint run ./...

.PHONY: jaeger
jaeger: ## build Jaeger into the cache and print where it is
	@.ci/jaeger

.PHONY: agents
agents: ## install the real agents of the tests into the cache and print where they are
	@.ci/agents

.PHONY: clean
clean: ## remove bin; the cache stays in $(CACHE)
	rm -rf bin
