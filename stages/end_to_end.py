"""Stage `end_to_end`: fine-tune every layer of the source model, one run per draw."""

from stages.strategy import run_strategy
from transfer.console import run
from transfer.strategies import end_to_end

if __name__ == "__main__":
    run(lambda: run_strategy(end_to_end))
