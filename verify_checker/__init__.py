"""A checker of robustness proofs that shares no code with the program that makes them.

It needs numpy and onnx only. ``verify_checker/README.md`` has its mathematics on one page; the
modules follow in the same order: ``rounding``, ``operations``, ``rules``, ``reader``, ``lines``,
``smooth``, ``planes``, ``regions``, ``walk``, ``proof``, ``check``, ``folder``, ``vnnlib``,
``instances``.
"""

from verify_checker.check import check
from verify_checker.operations import Network
from verify_checker.problems import Refused, Rejected
from verify_checker.proof import Proof, read_proof
from verify_checker.reader import read_network

__all__ = ["Network", "Proof", "Refused", "Rejected", "check", "read_network", "read_proof"]
