"""Behaviour that all commands share: errors become messages, docstrings become help."""

from __future__ import annotations

import atexit
import errno
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from verify_pipeline.errors import (
    ConfigError,
    FirstProcessError,
    ProcessError,
    VerifyPipelineError,
)

_MEMORY = (
    "memory; expected room for what the command needs; got none left. End other programs, or ask "
    "for less at once (recipes: certify.memory, optimiser.batch); the same command goes on then."
)


_SIGNS_OF_NO_MEMORY = (
    "can't start new thread",
    "error return without exception set",  # of Python, in the middle of an import
    "failed to map segment from shared object",  # of a module that is a library
)
"""What errors that are no ``MemoryError`` say where memory has run out."""


class Group(TyperGroup):
    """Turns errors that a user can fix into a message and an exit code, for every command."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command line's command."""
        try:
            return super().invoke(ctx)
        except FirstProcessError as error:  # the first process prints what happened
            raise typer.Exit(error.exit_code) from None
        except ProcessError as error:
            typer.echo(f"error: {error}", err=True)
            if _is_one_of_several():
                _end_at_once(error.exit_code)
            raise typer.Exit(error.exit_code) from None
        except VerifyPipelineError as error:
            sys.stdout.flush()
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(error.exit_code) from None
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of the output is gone; typer ends quietly
                raise
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(VerifyPipelineError.exit_code) from None
        except (MemoryError, RuntimeError, SystemError, ImportError) as error:
            if not _is_of_memory(error):
                raise
            typer.echo(f"error: {_MEMORY}", err=True)
            raise typer.Exit(VerifyPipelineError.exit_code) from None
        except KeyboardInterrupt:
            typer.echo("\nstopped; continue with the same command", err=True)
            raise typer.Exit(130) from None


def run_application(application: Callable[[], object]) -> None:
    """Run the application to its exit code.

    A process of torchrun ends there, without taking Python down: threads of torch's groups may
    abort it meanwhile, and torchrun would report a finished training as one that failed.
    """
    try:
        application()
    except SystemExit as end:
        if not _is_one_of_several():
            raise
        atexit._run_exitfuncs()  # such as the last lines of TensorBoard's file
        _end_at_once(end.code if isinstance(end.code, int) else int(end.code is not None))


def _is_of_memory(error: Exception) -> bool:
    """Whether memory ran out, also for a thread's stack or in an import."""
    if isinstance(error, MemoryError) or any(sign in str(error) for sign in _SIGNS_OF_NO_MEMORY):
        return True
    from verify_pipeline.bounds.memory import is_out_of_memory

    return is_out_of_memory(error)


def _is_one_of_several() -> bool:
    return os.environ.get("WORLD_SIZE", "1") not in ("", "1")


def _end_at_once(code: int) -> None:
    """End the process; threads of its group could abort it while Python is taken down."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def refuse_torchrun(command: str | None) -> None:
    """Refuse what torchrun would start several times in one folder.

    Raises:
        ConfigError: torchrun started several processes of a command that knows of one only.
    """
    if command != "train" and _is_one_of_several():
        raise ConfigError(
            "torchrun",
            expected="the command train",
            got=str(command),
            remedy="Train with torchrun, then start the other commands without it.",
        )


class Command(TyperCommand):
    """A command whose help text is its docstring, wrapped to the terminal's width."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.help = None if self.help is None else unwrapped(self.help)


def unwrapped(text: str) -> str:
    """A docstring with each paragraph on one line: typer would keep the source's line breaks."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
