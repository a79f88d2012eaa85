"""Train neural networks that can be verified, and certify networks on whole data sets."""
