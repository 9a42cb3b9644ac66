"""Stage `label_propagation`: spread labels over a graph of all target images, one run per draw."""

from stages.strategy import run_strategy
from transfer.console import run
from transfer.strategies import label_propagation

if __name__ == "__main__":
    run(lambda: run_strategy(label_propagation))
