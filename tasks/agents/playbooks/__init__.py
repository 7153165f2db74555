"""What the playbook agent knows: one folder per feature, and the code that reads the folders.

This package runs in the sandbox as well, without the rest of Chimera: standard library only.
"""
