"""fast.ai's lessons 7 and 13 rebuilt as pure functions in JAX and Flax."""

__version__ = "0.1.0"
