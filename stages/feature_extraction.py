"""Stage `feature_extraction`: fit a linear classifier on frozen features, one run per draw."""

from stages.strategy import run_strategy
from transfer.console import run
from transfer.strategies import feature_extraction

if __name__ == "__main__":
    run(lambda: run_strategy(feature_extraction))
