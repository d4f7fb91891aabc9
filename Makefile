# Every target sets up what it needs, in .venv of this checkout.
HOME := $(or $(HOME),$(CURDIR)/.venv/home)
export HOME
BIN := .venv/bin
RUN := $(BIN)/python -m
PYFLYTE := $(RUN) flytekit.clis.sdk_in_container.pyflyte
export PYTHONPATH := .
# Images set it; here every one of some thousand processes would compile the libraries anew.
unexport PYTHONDONTWRITEBYTECODE

IMAGE ?= nemoflows:dev
export QUESTION ?= How do I make tenacity wait exponentially longer between retries?

.PHONY: demo demo-crash demo-fix test test-dense test-vllm test-models lint types package wheel register setup clean

demo: setup  ## Ask a question of the documents that the installation brought along
	@$(BIN)/python examples/installed_docs.py .venv/installed-docs
	@$(PYFLYTE) run workflows/rag.py answer_question --question "$$QUESTION" --corpus .venv/installed-docs

demo-crash: setup  ## Kill a run half way, start it again, see what is not paid twice
	@rm -rf .venv/crash && $(BIN)/python examples/crash_demo.py .venv/crash

demo-fix: setup  ## Fix a bug of the example repository from its issue, without a model
	@$(PYFLYTE) run workflows/coding.py fix_issue --repo examples/lending --issue "$$(cat examples/lending/ISSUE.md)"

test: setup  ## Pass the tests
	@$(RUN) pytest -n 4 --dist worksteal $(ARGS)

test-dense:  ## Pass the tests that need an embedding model (installs torch)
	@.ci/setup dev dense
	@$(RUN) pytest -m dense $(ARGS)

test-vllm:  ## Pass the tests that need the real vLLM engine (its CPU build, in .venv-vllm)
	@.ci/setup-vllm
	@.venv-vllm/bin/python -m pytest -m vllm $(ARGS)

test-models:  ## Pass the tests that ask a real small model on this CPU (downloads 0.5 GB)
	@.ci/setup-models
	@TEST_MODELS=1 $(RUN) pytest -m models $(ARGS)

lint: setup  ## Style
	@$(RUN) ruff check . && $(RUN) ruff format --check .

types: setup  ## Types, strict
	@$(RUN) mypy

package: setup  ## Package the workflows for a cluster, offline
	@$(PYFLYTE) --pkgs workflows package --image $(IMAGE) --output .venv/flyte-package.tgz -f

wheel: setup  ## Build the wheel that images get
	@rm -rf dist && $(RUN) uv build -q --wheel --out-dir dist

register: wheel  ## Register the workflows with the cluster that flyte.config.yaml names
	@$(PYFLYTE) --config flyte.config.yaml register --copy auto --image $(IMAGE) $(ARGS) workflows

setup:
	@.ci/setup dev

clean:  ## Remove what the targets made
	rm -rf .venv .venv-vllm dist .pytest_cache .mypy_cache .ruff_cache
