"""Attacks that search a box for adversarial inputs, for training and for certification."""
