"""Entry point: the process made ready, the language chosen, and how an error ends."""

from __future__ import annotations

import contextlib
import importlib.abc
import os
import signal
import sys
import traceback

import click

from rd_import import messages
from rd_import.catalogue import language_of, speak
from rd_import.commands.help import cli, translate_help
from rd_import.commands.screen import print_json, say
from rd_import.errors import RdImportError


def main() -> None:
    """Run the command line; an error ends in a sentence and its exit code, never in a traceback."""
    os.umask(0o077)  # whatever is written, libraries' files included, is its owner's alone
    speak(language_of(sys.argv[1:], os.environ))
    translate_help()
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # until a command knows better: as Ctrl-C
    # Stages overlap in threads of ours; one less of polars' took 8 % off the time on two cores.
    os.environ.setdefault("POLARS_MAX_THREADS", str(max((os.cpu_count() or 2) - 1, 1)))
    _give_memory_back()
    sys.meta_path.insert(0, _NoPandas())
    try:
        code = cli.main(prog_name="rd-import", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.Abort as error:
        at_once = isinstance(error.__cause__, KeyboardInterrupt)
        say(messages.say("say.stopped_at_once" if at_once else "say.stopped"))
        sys.exit(130)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = messages.say(
            "say.usage_hint", command=context.command_path if context else "rd-import"
        )
        _fail(messages.with_hint(error.format_message(), hint), 2)
    except RdImportError as error:
        _fail(str(error), error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 -- the last resort of the command line
        if "-v" in sys.argv or "--verbose" in sys.argv:
            say("".join(traceback.format_tb(error.__traceback__)))  # the message may quote a cell
        what = messages.say("say.internal", kind=type(error).__name__)
        _fail(messages.with_hint(what, messages.say("say.internal_hint")), 1)


def _fail(text: str, code: int) -> None:
    say(f"rd-import: {text}")
    if "--json" in sys.argv:
        what, hint = messages.without_hint(text)
        print_json(error=what, hint=hint, exit_code=code)
    sys.exit(code)


def _give_memory_back() -> None:
    """Have the allocators of polars and pyarrow return memory soon; they read this when they are loaded.

    Pages that go back at once rather than after half a second cost 2 s or more of CPU on a million rows.
    """
    os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:500,muzzy_decay_ms:0")
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    if sys.platform == "linux":
        import ctypes

        # glibc raises its thresholds by what it sees, and each thread keeps a heap: the blocks of a stage would stay.
        with contextlib.suppress(AttributeError):  # another libc has no such call
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(-8, 1)  # M_ARENA_MAX: one heap for all threads
            mallopt(-3, 1 << 18)  # M_MMAP_THRESHOLD: larger blocks go back at once


class _NoPandas(importlib.abc.MetaPathFinder):
    """Has pandas look absent: pandera without it loads in half the time and 40 MB less, and no command uses it."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:  # noqa: ARG002
        if fullname == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name=fullname)
