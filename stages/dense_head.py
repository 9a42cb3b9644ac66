"""Stage `dense_head`: train new dense layers on frozen features, one run per draw."""

from stages.strategy import run_strategy
from transfer.console import run
from transfer.strategies import dense_head

if __name__ == "__main__":
    run(lambda: run_strategy(dense_head))
