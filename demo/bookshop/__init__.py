"""Marginalia: a small bookshop, rendered on the server."""
