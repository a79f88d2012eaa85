"""Imported once by the server that forks the commands, so that they start within milliseconds."""

import onnxruntime  # noqa: F401
import sklearn.datasets  # noqa: F401
import torch
import torch._dynamo

import verify_pipeline.api
import verify_pipeline.cli.app
import verify_pipeline.lirpa.bounder  # noqa: F401

torch.set_num_threads(1)
