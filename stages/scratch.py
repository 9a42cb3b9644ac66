"""Stage `scratch`: train the source model's layers on the target alone, from random weights, one run per draw."""

from stages.strategy import run_strategy
from transfer.console import run
from transfer.strategies import scratch

if __name__ == "__main__":
    run(lambda: run_strategy(scratch))
