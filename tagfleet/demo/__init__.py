"""A synthetic catalogue whose truth is known."""
