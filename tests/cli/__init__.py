"""Tests of the program ``xcnn``."""
