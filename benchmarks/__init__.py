"""Measurements of the whole line, on the machine that runs them."""
