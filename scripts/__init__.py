"""What a checkout needs before Chimera itself can run; the standard library only."""
