"""ONNX: reads networks from files, writes trained modules to files, and replays files."""

from verify_pipeline.onnx.export import ExportReport, export_onnx, network_from_module
from verify_pipeline.onnx.front import Front
from verify_pipeline.onnx.network import (
    Network,
    check,
    file_with_front,
    load_network,
    network_from_bytes,
)
from verify_pipeline.onnx.replay import Replayer

__all__ = [
    "ExportReport",
    "Front",
    "Network",
    "Replayer",
    "check",
    "export_onnx",
    "file_with_front",
    "load_network",
    "network_from_bytes",
    "network_from_module",
]
