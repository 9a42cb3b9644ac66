# Everything runs in .venv, which requirements/setup.sh makes and keeps in step with the locks.

.PHONY: help repro base test faults lint audit gpu lock bench compare reruns rehearse clean-cache clean
.NOTPARALLEL:

SETUP = @sh requirements/setup.sh
RUN = @PATH="$(CURDIR)/.venv/bin:$$PATH"
DIFFER = "dvc.lock and results/ differ from those in Git, and nothing else does. If you edited nothing, they were made on" \
	"another kind of processor (README.md). Keep yours: git switch -c mine && git commit -am 'Results of this machine'." \
	"Or take theirs: git restore dvc.lock results"

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

repro: base .cache/checked ## run what has changed of the pipeline (ARGS=... goes to dvc repro)
	$(RUN) dvc repro $(ARGS)
	@git diff --quiet HEAD -- . ':!dvc.lock' ':!results' 2>/dev/null && ! git diff --quiet HEAD && echo $(DIFFER) || true

base:
	$(SETUP) base

# The check imports TensorFlow: it runs again only after an edit.
.cache/checked: params.yaml dvc.yaml $(wildcard stages/*.py transfer/*.py transfer/*/*.py)
	$(RUN) python -m stages.check
	@mkdir -p .cache && touch $@

test: lint ## lint, check types, run the tests (ARGS=... goes to pytest)
	$(RUN) pytest --numprocesses 2 --dist loadfile -m "not slow" $(ARGS)

faults: ## run the slow tests: injected faults, edits and kills of whole studies (ARGS="-k kill" for some)
	$(SETUP) dev
	$(RUN) pytest --numprocesses 2 --dist loadfile -m slow $(ARGS)

lint: ## ruff and mypy only
	$(SETUP) dev
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy

audit: ## ask whether a locked package has a known weakness; needs the open network
	$(SETUP) dev
	$(RUN) pip-audit --disable-pip --require-hashes $(foreach lock,$(wildcard requirements/*.txt),-r $(lock)) $(ARGS)

gpu: ## add the CUDA libraries to .venv
	$(SETUP) gpu

lock: ## renew requirements/*.txt within the bounds of pyproject.toml
	$(SETUP) lock

bench: ## time the study beside its peers, write benchmarks/results.md (ARGS=--quick: see that it runs)
	$(SETUP) base
	$(RUN) python -m benchmarks $(ARGS)

compare: ## compare the results of revisions, as in ARGS="main my-branch"
	$(SETUP) base
	$(RUN) transfer compare $(ARGS)

reruns: ## renew the table in docs/reruns.md
	$(SETUP) base
	$(RUN) python -m benchmarks.reruns

rehearse: ## compare settings on source digits alone, as in ARGS="dense_head.units=128,256"
	$(SETUP) base
	$(RUN) python -m benchmarks.rehearsal $(ARGS)

clean-cache: ## forget the trained runs that no edit makes train twice, and the features for `transfer choose`
	rm -rf .cache/runs .cache/features

clean: clean-cache ## remove .venv and the tools' caches too; data, models and results stay
	rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache
