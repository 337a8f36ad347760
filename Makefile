# `make demo` and `make test` are where to begin; README.md explains them and the rest.

PREFIX ?= /usr/local
FAIL ?= 10%
CARGO ?= cargo
# What the program is built from: `install` builds it when it is missing or older than these.
SOURCES = Cargo.toml Cargo.lock $(shell find src -name '*.rs')

.PHONY: demo test lint pgo bench bench-quick conformance install uninstall deps

# The development profile: it builds soonest, and `make test` uses the same build.
demo: deps
	$(CARGO) run --locked -- demo --proxy --fail $(FAIL)

test: deps
	$(CARGO) test --locked

lint: deps
	$(CARGO) fmt --check && $(CARGO) clippy --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --locked
	.ci/deny

# The release build by a profile of what it does under load: some tenths less CPU time for a request, two to three times the time to
# build. `make install` and `make bench` take it once it is there.
pgo: deps
	.ci/peers load
	CARGO="$(CARGO)" benches/pgo

# Beside nginx and HAProxy, five rounds; then what finding a route costs.
bench: deps target/release/backstop
	.ci/peers load
	benches/peers.py
	$(CARGO) bench --locked --bench routing

# The same in two minutes, one round: a look, no judgement. Then instructions, which do not depend on what else runs: more than
# the figures kept in benches/instructions.txt is a failure.
bench-quick: deps target/release/backstop
	.ci/peers load
	benches/peers.py --rounds 1 --seconds 1
	benches/instructions.py

# What the tools of others say of TLS, of HTTP/2 and of slow clients: testssl.sh, h2spec, slowhttptest.
conformance: deps target/release/backstop
	tests/conformance/run

install: target/release/backstop
	PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" systemd/install

uninstall:
	PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" systemd/uninstall

deps:
	@.ci/deps

target/release/backstop: $(SOURCES)
	@CARGO="$(CARGO)" .ci/build
