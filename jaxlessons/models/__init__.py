"""Flax (linen) networks: they take arrays and return logits, and know nothing of training."""
