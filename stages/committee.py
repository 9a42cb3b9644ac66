"""Stage `committee`: learn what other strategies say of unlabelled images, one run per draw."""

from stages.strategy import run_strategy
from transfer.console import run
from transfer.strategies import committee

if __name__ == "__main__":
    run(lambda: run_strategy(committee))
