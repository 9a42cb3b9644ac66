"""Stage `prototypes`: take the nearest class mean of frozen features, one run per draw."""

from stages.strategy import run_strategy
from transfer.console import run
from transfer.strategies import prototypes

if __name__ == "__main__":
    run(lambda: run_strategy(prototypes))
