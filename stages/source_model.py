"""Stage `source_model`: take the source model as it is, where it knows the target's classes."""

from stages.strategy import run_strategy
from transfer.console import run
from transfer.strategies import source_model

if __name__ == "__main__":
    run(lambda: run_strategy(source_model))
