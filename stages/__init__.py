"""The stages of the pipeline, one module each; before all else that they import, what ends them on Ctrl-C."""

from transfer import console

__all__ = ["console"]
