# `make chat`: from a fresh clone to a chat with alice. `make test`: everything that a change must pass.

PROGRAM = target/release/cope-llama
# What is missing afterwards is installed by .ci/needs; rustup puts cargo here.
export PATH := $(HOME)/.cargo/bin:$(PATH)

# See .cargo/config.toml: a host that builds for itself uses all that its CPU has.
ifeq ($(shell uname -sm),Linux aarch64)
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS = -C target-cpu=native
endif

# Stock llama.cpp, in the version that the program which runs it asks for.
ORACLE_VERSION = $(shell sed -n 's/^VERSION = "\(.*\)"/\1/p' tests/golden/consumer.py)
ORACLE = target/oracle-$(ORACLE_VERSION)
export COPE_ORACLE_PYTHON = $(CURDIR)/$(ORACLE)/bin/python

# Contexts compute on all cores and wait for each other's threads: tests beside each other would only be slower.
ifneq ($(shell command -v cargo-nextest),)
TESTS = cargo nextest run --release --workspace --no-fail-fast --test-threads 1
else
TESTS = cargo test --release --workspace --lib --bins --tests --no-fail-fast -- --test-threads 1
endif

# The contrast as a sampler for other programs, with the llama.cpp that they share with it: a build of its own.
SAMPLER = target/sampler
export COPE_SAMPLER = $(CURDIR)/$(SAMPLER)/lib

.PHONY: chat test test-cuda test-metal test-vulkan build sampler bench-training bench-decoding bench-exchange exchange-llama bench-serving serve-clients aarch64 bench-device fuzz

chat: build
	@$(PROGRAM) model pull > /dev/null
	@$(PROGRAM) user show alice > /dev/null 2>&1 || $(PROGRAM) user import alice --demo
	@$(PROGRAM) user show alice | grep -q '^adapter *trained$$' || $(PROGRAM) train alice
	@if [ -t 0 ]; then $(PROGRAM) chat --user alice; else $(PROGRAM) chat --user alice --demo -n 128; fi

build:
	@.ci/needs
	@cargo build --release

sampler:
	@.ci/needs
	cargo rustc --release -p cope-contrast --features sampler --crate-type cdylib --target-dir $(SAMPLER)
	mkdir -p $(COPE_SAMPLER)
	llama=$$(ls -dt $(SAMPLER)/release/build/llama-cpp-sys-2-*/out | head -n 1) && \
		cp -P $(SAMPLER)/release/libcope_contrast.* $$llama/lib*/lib*.* $(COPE_SAMPLER) && \
		$(CC) -O2 -Wall -Wextra -Werror contrast/examples/cope.c -o $(COPE_SAMPLER)/cope \
			-Icontrast/include -I$$llama/include \
			-L$(COPE_SAMPLER) -lcope_contrast -lllama -Wl,-rpath,$(COPE_SAMPLER)

test:
	@.ci/needs test
	@$(MAKE) --no-print-directory $(ORACLE)/ready
	@$(MAKE) --no-print-directory sampler
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	cargo clippy --release --no-default-features --features chat -- -D warnings
	cargo clippy --release --no-default-features --features serve -- -D warnings
	cargo clippy --release -p cope-contrast --features sampler --target-dir $(SAMPLER) -- -D warnings
	cargo build --release --workspace --tests
	$(PROGRAM) model pull
	$(TESTS)
	cargo test --release --workspace --doc

$(ORACLE)/ready:
	python3 -m venv $(ORACLE)
	$(ORACLE)/bin/python -m pip install --disable-pip-version-check -q xllamacpp==$(ORACLE_VERSION)
	touch $@

# Decoding and training on the first GPU, against the CPU; a build of its own.
test-cuda test-metal: test-%:
	@.ci/needs
	cargo test --release --features $* --target-dir target/$* --test it -- --test-threads 1 gpu:: candle::

# Decoding on Vulkan's first device, be it Mesa's of software; a build of its own.
test-vulkan:
	@.ci/needs vulkan
	sdk=$$(.ci/vulkan-headers target/vulkan-headers) && env $$sdk GGML_VK_VISIBLE_DEVICES=0 \
		cargo test --release --features vulkan --target-dir target/vulkan --test it gpu:: -- --test-threads 1

# The readers of files on bytes at random, SECONDS each. What is found stays in target/fuzz.
SECONDS = 300
FUZZ = target/fuzz
fuzz: $(FUZZ)/bin/cargo-fuzz
	for target in gguf safetensors peft; do \
		mkdir -p $(FUZZ)/corpus/$$target $(FUZZ)/found && \
		RUSTC_BOOTSTRAP=1 $(if $(wildcard /dev/shm),TMPDIR=/dev/shm) PATH=$(CURDIR)/$(FUZZ)/bin:$$PATH cargo fuzz run --fuzz-dir convert/fuzz \
			--target-dir $(FUZZ)/build $$target $(FUZZ)/corpus/$$target convert/fuzz/corpus/$$target -- \
			-artifact_prefix=$(FUZZ)/found/ -max_total_time=$(SECONDS) -max_len=4096 -rss_limit_mb=600 || exit 1; \
	done

$(FUZZ)/bin/cargo-fuzz:
	cargo install cargo-fuzz --version 0.13.1 --root $(FUZZ)

PEER = target/peer
EXCHANGE = target/exchange

# Beside transformers + peft; some gigabytes of their wheels.
bench-training: $(PEER)/ready
	cargo bench --bench training -- --python $(PEER)/bin/python

bench-decoding: $(PEER)/ready
	cargo bench --bench decoding -- --what report peer

# Adapters in other programs, and theirs here.
bench-exchange: $(PEER)/ready $(ORACLE)/ready $(EXCHANGE)/ready
	cargo bench --bench exchange

# The part of it that a change must pass.
exchange-llama: $(PEER)/ready $(ORACLE)/ready $(EXCHANGE)/ready
	cargo bench --bench exchange -- --what families programs --family llama --model $$($(PROGRAM) model pull)

# For small devices with 64-bit ARM, without training and server; see .ci/aarch64.
aarch64:
	@.ci/needs aarch64
	.ci/aarch64 cargo build --release --no-default-features --features chat

bench-device: aarch64
	cargo bench --bench device -- \
		--aarch64 $(CURDIR)/target/$(if $(ARM_ARCH),$(ARM_ARCH)/)aarch64-unknown-linux-gnu/release/cope-llama

# The server beside OpenAI's clients, Schemathesis, and many at once.
CLIENTS = target/clients
bench-serving: $(CLIENTS)/ready
	cargo bench --bench serving

# The part of it that a change must pass.
serve-clients: $(CLIENTS)/ready
	cargo bench --bench serving -- --what clients

$(CLIENTS)/ready:
	@.ci/needs clients
	python3 -m venv $(CLIENTS)
	$(CLIENTS)/bin/python -m pip install --disable-pip-version-check -q openai==3.57.0 schemathesis==4.32.5
	mkdir -p $(CLIENTS)/node
	npm install --prefix $(CLIENTS)/node --ignore-scripts --no-audit --no-fund --silent openai@6.49.0 puppeteer-core@24.10.0
	touch $@

# Of llama.cpp's sources only the converters; of node-llama-cpp the build without a GPU.
$(EXCHANGE)/ready:
	@.ci/needs exchange
	mkdir -p $(EXCHANGE)/node $(EXCHANGE)/llama.cpp
	python3 -m pip download --disable-pip-version-check -q --no-deps --no-binary :all: -d $(EXCHANGE) llama-cpp-python==0.3.36
	tar -xzf $(EXCHANGE)/llama_cpp_python-0.3.36.tar.gz -C $(EXCHANGE)/llama.cpp --strip-components=3 \
		--wildcards '*/vendor/llama.cpp/convert*' '*/vendor/llama.cpp/conversion' '*/vendor/llama.cpp/gguf-py'
	npm install --prefix $(EXCHANGE)/node --ignore-scripts --omit=optional --no-audit --no-fund --silent \
		node-llama-cpp@3.22.1 @node-llama-cpp/linux-x64@3.22.1
	touch $@

$(PEER)/ready:
	python3 -m venv $(PEER)
	$(PEER)/bin/python -m pip install --disable-pip-version-check -q torch==2.15.0 transformers==5.23.0 peft==0.21.2 accelerate==1.15.0 gguf==0.19.0
	touch $@
