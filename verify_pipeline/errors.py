"""What can go wrong, as a user sees it.

::

    VerifyPipelineError
    ├── ConfigError          a recipe, an option or an argument is not as it must be
    ├── DataError            a data file is missing, damaged or holds impossible values
    ├── NetworkError         a network or an ONNX file cannot be used
    │   └── UnsupportedOperatorError   … because of an operator this package does not know
    ├── LedgerError          a ledger file cannot be read, written or continued
    ├── StudyError           the folder of a sweep or a study cannot be read, locked or continued
    ├── DependencyError      a package or a tool that is needed is missing or of a wrong version
    └── TrainingError        a training cannot go on (diverged, or its checkpoint does not fit)

The command line prints ``str(error)`` and exits with code 2: these are the user's mistakes or the
environment's, never a bug here. Anything else that is raised is a bug.
"""

from __future__ import annotations


class VerifyPipelineError(Exception):
    """Base of every error that a user can cause and mend.

    Args:
        what: the thing that is wrong, by name (a key, a file, an operator).
        expected: what was expected there.
        got: what came instead.
        remedy: what to do about it.
    """

    exit_code = 2

    def __init__(
        self,
        what: str,
        *,
        expected: str | None = None,
        got: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.what = what
        self.expected = expected
        self.got = got
        self.remedy = remedy
        parts = [what]
        if expected is not None:
            parts.append(f"expected {expected}")
        if got is not None:
            parts.append(f"got {got}")
        message = "; ".join(parts)
        if remedy is not None:
            message += f". {remedy}"
        super().__init__(message)


class ConfigError(VerifyPipelineError):
    """A recipe, an option or an argument is not as it must be."""


class DataError(VerifyPipelineError):
    """A data file is missing, damaged, or holds values that cannot be."""


class NetworkError(VerifyPipelineError):
    """A network or an ONNX file cannot be used."""


class UnsupportedOperatorError(NetworkError):
    """An ONNX file uses an operator, or a form of one, that the importer does not know."""


class LedgerError(VerifyPipelineError):
    """A ledger file cannot be read, written or continued."""


class StudyError(VerifyPipelineError):
    """The folder of a sweep or a study cannot be read, locked or continued."""


class DependencyError(VerifyPipelineError):
    """A package or an external tool is missing, or its version does not fit."""


class ProcessError(VerifyPipelineError):
    """Processes that work together cannot reach each other, or one of them has ended."""


class FirstProcessError(ProcessError):
    """The first of several processes has raised an error, which it tells the user."""


class TrainingError(VerifyPipelineError):
    """A training cannot start or go on."""
