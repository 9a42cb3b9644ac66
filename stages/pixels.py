"""Stage `pixels`: fit a linear classifier on pixels, one run per draw."""

from stages.strategy import run_strategy
from transfer.console import run
from transfer.strategies import pixels

if __name__ == "__main__":
    run(lambda: run_strategy(pixels))
