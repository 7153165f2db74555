"""The chaos suite: a real factory, faults by a seeded plan, and a checker of what was seen."""
