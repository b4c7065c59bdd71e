"""Setup of every rule's script: output to the rule's log, faults also on the terminal, fixed threads.

Import this before anything heavy: the log must be open, and the threads set, if an import fails.
"""

import faulthandler
import json
import logging
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mosaic import imports
from mosaic.errors import InputError
from mosaic.files import atomic_write


def _told(error: Exception) -> Exception:
    """What to say of an error: that the disk is full, from whichever library wrote, or the error itself."""
    if "No space left on device" not in str(error):
        return error
    hint = "free space, then run again: finished files are kept, and no incomplete file is left"
    return InputError(f"the disk is full ({error})", where=os.getcwd(), hint=hint)


@contextmanager
def job_log(log: str | Path, *, threads: int = 1, versions: str | Path | None = None) -> Iterator[None]:
    """Run a rule's work with stdout and stderr in its log, and record the software versions.

    Faults end the process with exit code 1. The terminal (the stderr that the job was given) shows the text of an
    ``InputError``, the last line of any other exception, warnings, and records logged with
    ``extra={"progress": True}``.

    Parameters
    ----------
    log
        The rule's log file.
    threads
        Threads of numeric libraries. Results depend on this number, so it comes from the configuration, not from
        OMP_NUM_THREADS, which Snakemake sets to the available cores.
    versions
        Where to record, after the work, the versions of this library, of Python and of all packages that the process
        loaded, as JSON; None: nowhere. The report shows those of the rules that have this file as an output.
    """
    for name in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
        os.environ[f"{name}_NUM_THREADS"] = str(threads)
    # Idle threads sleep: if they spin, they occupy the cores of other jobs, and all become many times slower.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ["MPLBACKEND"] = "Agg"
    # numba keeps compiled functions beside the packages. Where nobody may write there, as in a container, all jobs of
    # the run share a folder of their own: a home may be missing, too.
    if not os.access(sysconfig.get_path("purelib"), os.W_OK):
        os.environ.setdefault("NUMBA_CACHE_DIR", os.path.abspath(".snakemake/numba"))
    sys.stdout.flush()
    sys.stderr.flush()
    terminal = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    try:
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    except OSError as error:  # a full disk has no place for an empty file either
        told = _told(error)
        print(f"\n{type(told).__name__}: {told}\n", file=terminal)
        sys.exit(1)
    os.dup2(file, 1)
    os.dup2(file, 2)
    # A damaged file can crash the library that reads it, without an exception: faulthandler logs the location.
    faulthandler.enable(2)

    shown = logging.StreamHandler(terminal)
    shown.addFilter(lambda record: record.levelno >= logging.WARNING or getattr(record, "progress", False))
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
    library = logging.getLogger("mosaic")
    library.setLevel(logging.INFO)
    library.addHandler(shown)
    try:
        yield
        if versions is not None:
            with atomic_write(versions) as unfinished:
                unfinished.write_text(json.dumps(imports.versions(), indent=1))
    except InputError as error:
        with suppress(OSError):
            print(f"InputError: {error}", file=sys.stderr, flush=True)
        print(f"\nInputError: {error}\n", file=terminal)
        sys.exit(1)
    except Exception as error:
        with suppress(OSError):  # the log is on the disk that is full
            traceback.print_exc()
        error = _told(error)
        print(f"\n{type(error).__name__}: {error}\n    The whole traceback is in {log}\n", file=terminal)
        sys.exit(1)
