# `make chat` goes from a fresh clone to a chat with alice; `make test` runs all tests; `make help` lists the targets.

PROGRAM = target/release/cope-llama
# Most targets install missing build tools with .ci/needs. rustup puts cargo here.
export PATH := $(HOME)/.cargo/bin:$(PATH)

# A host that builds for itself uses all features of its CPU; see .cargo/config.toml.
ifeq ($(shell uname -sm),Linux aarch64)
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS = -C target-cpu=native
endif

# A prebuilt llama.cpp to compare with, in the version that tests/golden/consumer.py asks for.
ORACLE_VERSION = $(shell sed -n 's/^VERSION = "\(.*\)"/\1/p' tests/golden/consumer.py)
ORACLE = target/oracle-$(ORACLE_VERSION)
export COPE_ORACLE_PYTHON = $(CURDIR)/$(ORACLE)/bin/python

# .config/nextest.toml says which tests run side by side. Without nextest none do.
ifneq ($(shell command -v cargo-nextest),)
TESTS = cargo nextest run --release --workspace --no-fail-fast
else
TESTS = cargo test --release --workspace --lib --bins --tests --no-fail-fast -- --test-threads 1
endif

# The contrast as a sampler for other programs, beside the shared llama.cpp that both use.
export COPE_SAMPLER = $(CURDIR)/target/sampler

.PHONY: help chat build sampler check lint test mutations environments test-cuda test-metal test-vulkan fuzz bench-training \
	bench-decoding bench-leaks bench-mails bench-secrets bench-shapes smoke-shapes smoke-answers smoke-first-token smoke-imports bench-templates cases bench-exchange \
	exchange-llama bench-serving serve-clients serve-langchain aarch64 bench-device

## help: list these targets
help:
	@sed -n 's/^## //p' Makefile | awk -F': ' '{ printf "%-16s %s\n", $$1, $$2 }'

## chat: build, fetch the default base model, train alice, and chat with her
chat: build
	@$(PROGRAM) model pull > /dev/null
	@$(PROGRAM) user show alice > /dev/null 2>&1 || $(PROGRAM) user import alice --demo
	@$(PROGRAM) user show alice | grep -q '^adapter *trained$$' || $(PROGRAM) train alice
	@if [ -t 0 ]; then $(PROGRAM) chat --user alice; else $(PROGRAM) chat --user alice --demo -n 128; fi

## build: build the program for this machine's CPU
build:
	@.ci/needs
	@cargo build --release

## sampler: build the contrast as a shared library for other programs of llama.cpp
sampler:
	@.ci/needs
	cargo build --release -p cope-llama -p cope-sampler
	sampler/link $(COPE_SAMPLER)

## check: fast checks while working (formatting, clippy, unit tests, rules of the tree)
check:
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	cargo test --release --workspace --lib

## lint: formatting, and clippy of every set of features
lint:
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	cargo clippy --release --no-default-features --features chat -- -D warnings
	cargo clippy --release --no-default-features --features serve -- -D warnings

## test: lint, and all tests of the workspace
test:
	@.ci/needs test
	@$(MAKE) --no-print-directory $(ORACLE)/ready
	@$(MAKE) --no-print-directory lint
	cargo build --release --workspace --tests
	@$(MAKE) --no-print-directory sampler
	$(PROGRAM) model pull
	$(TESTS)
	cargo test --release --workspace --doc

## mutations: 2,000 mutated models and adapters of each family, of which make test tries a quarter
mutations:
	@.ci/needs
	COPE_MUTATIONS=2000 cargo test --release --workspace --test it -- --nocapture training::settings training::tensors peft_mutations

$(ORACLE)/ready:
	python3 -m venv $(ORACLE)
	$(ORACLE)/bin/python -m pip install --disable-pip-version-check -q xllamacpp==$(ORACLE_VERSION)
	touch $@

## test-cuda: decoding and training on the first NVIDIA GPU, against the CPU (also test-metal)
test-cuda test-metal: test-%:
	@.ci/needs
	cargo test --release --features $* --target-dir target/$* --test it -- --test-threads 1 gpu:: candle::

## test-vulkan: decoding on Vulkan's first device, which may be the software device lavapipe (a build of its own)
test-vulkan:
	@.ci/needs vulkan
	sdk=$$(.ci/vulkan-headers target/vulkan-headers) && env $$sdk GGML_VK_VISIBLE_DEVICES=0 \
		cargo test --release --features vulkan --target-dir target/vulkan --test it gpu:: -- --test-threads 1

SECONDS = 300
FUZZ = target/fuzz
## fuzz: the readers of files on random bytes, SECONDS each; findings stay in target/fuzz/found
fuzz: $(FUZZ)/bin/cargo-fuzz
	for target in gguf safetensors peft; do \
		mkdir -p $(FUZZ)/corpus/$$target $(FUZZ)/found && \
		RUSTC_BOOTSTRAP=1 $(if $(wildcard /dev/shm),TMPDIR=/dev/shm) PATH=$(CURDIR)/$(FUZZ)/bin:$$PATH cargo fuzz run --fuzz-dir convert/fuzz \
			--target-dir $(FUZZ)/build $$target $(FUZZ)/corpus/$$target convert/fuzz/corpus/$$target -- \
			-artifact_prefix=$(FUZZ)/found/ -max_total_time=$(SECONDS) -max_len=4096 -rss_limit_mb=600 || exit 1; \
	done

$(FUZZ)/bin/cargo-fuzz:
	cargo install cargo-fuzz --version 0.13.1 --root $(FUZZ)

# Unpacks gigabytes of wheels in a third of pip's time.
UV = target/uv/bin/uv
UV_INSTALL = $(UV) pip install --system-certs --no-cache -q

$(UV):
	@.ci/needs test
	python3 -m venv target/uv
	target/uv/bin/python -m pip install --disable-pip-version-check -q uv==0.13.9

PEER = target/peer
EXCHANGE = target/exchange
TEMPLATES = target/templates

## bench-training: training beside transformers + peft, whose wheels are some gigabytes
bench-training: $(PEER)/ready
	cargo bench --bench training -- --python $(PEER)/bin/python

## bench-decoding: decoding, beside the reference in transformers too
bench-decoding: $(PEER)/ready
	cargo bench --bench decoding -- --what report peer

## bench-shapes: training and decoding at the sizes of published models, and training beside transformers + peft
bench-shapes: $(PEER)/ready
	cargo bench --bench shapes -- --what training,decoding,peer --python $(PEER)/bin/python

## smoke-shapes: the same with a few blocks and tokens, without transformers
smoke-shapes:
	cargo bench --bench shapes -- --smoke

## smoke-answers: a few short answers of the default base by all settings of the bench answers
smoke-answers:
	cargo bench --bench answers -- --smoke --base $$($(PROGRAM) model pull)

## smoke-first-token: one first token of each kind, by the benches decoding and serving
smoke-first-token: $(ORACLE)/ready
	cargo bench --bench decoding -- --what first --repeats 1 --prompt-tokens 40 --model $$($(PROGRAM) model pull)
	cargo bench --bench serving -- --what first-token --repeats 1 --prompt-tokens 40 --model $$($(PROGRAM) model pull)

## bench-templates: prompts by llama.cpp's collection of chat templates, beside those of transformers
bench-templates: $(PEER)/ready $(TEMPLATES)/ready
	cargo bench --bench templates -- --templates $(TEMPLATES)

CASES = ../shared/cases
VOCABS = target/vocabs
## cases: adapters, bases, data sets and exports and chats as people have them, each with a verdict (CASES is their folder)
cases: build $(PEER)/ready $(VOCABS)/ready
	$(PEER)/bin/python benches/cases/adapters.py --cases $(CASES) --vocabs $(VOCABS) --program $(PROGRAM)
	for kind in datasets chatgpt assistants lamp messengers; do \
		$(PEER)/bin/python benches/cases/$$kind.py --cases $(CASES) --program $(PROGRAM) || exit 1; done

$(VOCABS)/ready: $(EXCHANGE)/ready
	mkdir -p $(VOCABS)
	tar -xzf $(EXCHANGE)/llama_cpp_python-0.3.36.tar.gz -C $(VOCABS) --strip-components=4 \
		--wildcards '*/vendor/llama.cpp/models/*'
	touch $@

## bench-exchange: our adapters in other programs, and theirs here
bench-exchange: $(PEER)/ready $(ORACLE)/ready $(EXCHANGE)/ready
	cargo bench --bench exchange

## exchange-llama: the part of bench-exchange that every change must pass
exchange-llama: $(PEER)/ready $(ORACLE)/ready $(EXCHANGE)/ready
	cargo bench --bench exchange -- --what families programs --family llama --model $$($(PROGRAM) model pull)

## aarch64: the program without training and server, for small devices with 64-bit ARM
aarch64:
	@.ci/needs aarch64
	.ci/aarch64 cargo build --release --no-default-features --features chat

## bench-device: size, memory and answers of the ARM build, under qemu
bench-device: aarch64
	cargo bench --bench device -- \
		--aarch64 $(CURDIR)/target/$(if $(ARM_ARCH),$(ARM_ARCH)/)aarch64-unknown-linux-gnu/release/cope-llama

MAILS = target/mails
## bench-mails: what the import of mails takes and cuts, of invented mails, beside four Python packages
bench-mails: build $(MAILS)/ready
	$(MAILS)/bin/python benches/mails/threads.py --count 2000 --seed 2 > $(MAILS)/mails.jsonl
	$(MAILS)/bin/python benches/mails/compare.py $(MAILS)/mails.jsonl --program cope-llama=$(PROGRAM) --peers

$(MAILS)/ready:
	python3 -m venv $(MAILS)
	$(MAILS)/bin/python -m pip install --disable-pip-version-check -q babel==2.19.0 mail-parser-reply==1.36 talon==1.4.4 \
		quotequail==0.5.4 email-reply-parser==0.5.12
	touch $@

SECRETS = target/secrets
DATA = ../shared/data/lamp
## bench-secrets: how many planted secrets the import masks, and how many texts of DATA, LaMP files, it alters
bench-secrets: build $(SECRETS)/ready
	$(SECRETS)/bin/python benches/secrets/measure.py --program $(PROGRAM) --seeds 101 102 103 --sets $(DATA)

## bench-leaks: what the adapters of two users in DATA give away, with secrets in their texts and with masked ones
bench-leaks: build $(SECRETS)/ready
	$(SECRETS)/bin/python benches/secrets/leaks.py --program $(PROGRAM) --model $$($(PROGRAM) model pull) --data $(DATA)

## smoke-imports: bench-secrets and bench-mails on a few texts, without the other packages
smoke-imports: build $(SECRETS)/ready
	$(SECRETS)/bin/python benches/secrets/measure.py --program $(PROGRAM) --seeds 1
	$(SECRETS)/bin/python benches/mails/threads.py --count 60 --seed 1 > $(SECRETS)/mails.jsonl
	$(SECRETS)/bin/python benches/mails/compare.py $(SECRETS)/mails.jsonl --program cope-llama=$(PROGRAM)

$(SECRETS)/ready:
	python3 -m venv $(SECRETS)
	$(SECRETS)/bin/python -m pip install --disable-pip-version-check -q mnemonic==0.21 babel==2.19.0
	touch $@

CLIENTS = target/clients
## bench-serving: the server with OpenAI's and Ollama's clients, a browser, Schemathesis, many clients at once, and beside llama-server
bench-serving: $(CLIENTS)/ready $(ORACLE)/ready
	cargo bench --bench serving

## serve-clients: the part of bench-serving that every change must pass
serve-clients: $(CLIENTS)/ready
	cargo bench --bench serving -- --what clients --examples 15

## serve-langchain: the server with LangChain's classes for Ollama
serve-langchain: $(CLIENTS)/langchain
	cargo bench --bench serving -- --what langchain

$(CLIENTS)/langchain: $(CLIENTS)/ready
	$(UV_INSTALL) --python $(CLIENTS)/bin/python langchain-ollama==1.1.0
	touch $@

$(CLIENTS)/ready: | $(UV)
	@.ci/needs clients
	python3 -m venv $(CLIENTS)
	$(UV_INSTALL) --python $(CLIENTS)/bin/python openai==3.57.0 ollama==0.6.3 schemathesis==4.32.5
	mkdir -p $(CLIENTS)/node
	npm install --prefix $(CLIENTS)/node --ignore-scripts --no-audit --no-fund --silent openai@6.49.0 ollama@0.6.4 puppeteer-core@24.10.0
	touch $@

# Only the converters of llama.cpp's sources, and node-llama-cpp's build without a GPU.
$(EXCHANGE)/ready:
	@.ci/needs exchange
	mkdir -p $(EXCHANGE)/node $(EXCHANGE)/llama.cpp
	python3 -m pip download --disable-pip-version-check -q --no-deps --no-binary llama-cpp-python -d $(EXCHANGE) llama-cpp-python==0.3.36
	tar -xzf $(EXCHANGE)/llama_cpp_python-0.3.36.tar.gz -C $(EXCHANGE)/llama.cpp --strip-components=3 \
		--wildcards '*/vendor/llama.cpp/convert*' '*/vendor/llama.cpp/conversion' '*/vendor/llama.cpp/gguf-py'
	npm install --prefix $(EXCHANGE)/node --ignore-scripts --omit=optional --no-audit --no-fund --silent \
		node-llama-cpp@3.22.1 @node-llama-cpp/linux-x64@3.22.1
	touch $@

$(TEMPLATES)/ready: $(EXCHANGE)/ready
	mkdir -p $(TEMPLATES)
	tar -xzf $(EXCHANGE)/llama_cpp_python-0.3.36.tar.gz -C $(TEMPLATES) --strip-components=5 \
		--wildcards '*/vendor/llama.cpp/models/templates/*.jinja'
	touch $@

$(PEER)/ready: | $(UV)
	python3 -m venv $(PEER)
	$(UV_INSTALL) --python $(PEER)/bin/python torch==2.15.0 transformers==5.23.0 peft==0.21.2 accelerate==1.15.0 gguf==0.19.0 sentencepiece==0.2.1
	touch $@

## environments: the other programs that .ci/run compares with, apart from the one that make test sets up
environments: $(CLIENTS)/ready $(EXCHANGE)/ready $(PEER)/ready
