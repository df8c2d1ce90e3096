# make demo   the main job, end to end, in a virtual machine
# make test   everything: formatting, vet, staticcheck, unit tests, virtual machine stories
# make torture  power cuts, for hours: see docs/power-cuts.md
# All install what they need (Debian packages through apt); only git, make and Go must be there.

SHELL       := /bin/bash
GO          ?= go
export GOTOOLCHAIN ?= auto
BIN         := bin
CACHE       ?= .cache
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.6.1
GOBUILD     := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags "-s -w -buildid="

# Some tests mount images. They are built as whoever calls make and run as root.
AS_ROOT := $(if $(filter-out 0,$(shell id -u)),-exec 'sudo env PATH=$(PATH)')

.PHONY: all build demo test unit vm slow torture lint setup bench clean

all: build

build: need-go
	$(GOBUILD) -o $(BIN)/ashlar ./cmd/ashlar
	$(GOBUILD) -o $(BIN)/ashlar-init ./cmd/ashlar-init

# Says what is missing and how to get it, before anything else fails in a puzzling way.
.PHONY: need-go
need-go:
	@test/need-go "$(GO)" go.mod

setup:
	@test/setup test/packages.txt

demo: need-go setup build
	@$(GO) run ./test/demo

# staticcheck is built with the Go that builds the project, also where that was fetched.
lint: need-go
	@out=$$(gofmt -l bench cmd internal test); if [ -n "$$out" ]; then echo "gofmt would change:"; echo "$$out"; exit 1; fi
	$(GO) vet -tags vm,slow ./...
	GOTOOLCHAIN=$$($(GO) env GOVERSION) $(GO) run $(STATICCHECK) -tags vm,slow ./...

unit: need-go setup build
	$(GO) test $(AS_ROOT) -timeout 20m ./...

# One image is built and booted once; all stories start from copies of that disk,
# two at a time with one processor each. STORY="-torture-seed 7" is other power cuts,
# STORY="-run TestMedium" one story.
vm: need-go setup build
	$(GO) test -tags vm -timeout 60m -parallel 2 -count=1 -v ./test/vm $(STORY)

test: lint unit vm

# Stories that take long. STORY="-seed 7" is another long life.
slow: need-go setup build
	$(GO) test -tags vm,slow -timeout 180m -parallel 2 -count=1 -v -run '^(TestAskedInstall|TestCountedAgain|TestInstallCuts|TestLongLife|TestReinstall|TestThreeBadBoots|TestVarDisk)$$' ./test/vm $(STORY)

torture: need-go setup build
	$(GO) run ./test/torture/long $(TORTURE)

bench: need-go setup build
	GO="$(GO)" bench/run

clean:
	rm -rf $(BIN) $(CACHE)
