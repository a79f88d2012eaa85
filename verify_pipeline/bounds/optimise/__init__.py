"""Optimised bounds: the free parameters of relaxations, and projected ascent on them."""
