"""Stage `self_training`: fine-tune every layer on labels and pseudo-labels, one run per draw."""

from stages.strategy import run_strategy
from transfer.console import run
from transfer.strategies import self_training

if __name__ == "__main__":
    run(lambda: run_strategy(self_training))
