"""Users' HDF5 files of any format: opened, and looked at before anything large is read."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from mosaic.errors import InputError, shortened

COPY_AGAIN = "check that it was copied or downloaded whole"

# Bytes of a short string in memory; a file says 16.
_STRING_BYTES = 80

# Where Linux tells what a process may use.
_PROCESS, _GROUPS = Path("/proc/self"), Path("/sys/fs/cgroup")


@contextmanager
def opened(path: str, what: str, mend: str = COPY_AGAIN) -> Iterator[h5py.File]:
    """A user's file; what can be wrong with it as a file is told in words.

    Parameters
    ----------
    path
        The file.
    what
        What it is read as, for messages.
    mend
        What to do if it is damaged.

    Raises
    ------
    InputError
        If it can't be read, or names another file.
    """
    try:
        with h5py.File(path) as file:
            check_own(file, path)
            yield file
    except InputError:
        raise
    except Exception as error:  # h5py and anndata raise about anything on a damaged file
        if "unable to lock file" in str(error):
            raise InputError(
                "is locked: another program has it open to write, or the file system knows no locks",
                where=path,
                hint="close it there, a notebook perhaps, and run again; if nothing has it open, "
                "set HDF5_USE_FILE_LOCKING=FALSE in the environment",
            ) from error
        problem = f"can't be read as {what} ({type(error).__name__}: {shortened(str(error), 300)})"
        raise InputError(problem, where=path, hint=mend) from error


def check_own(file: h5py.File, where: str) -> None:
    """Whether the file holds all that it names: HDF5 would read any other file, and it would go into the results."""

    def linked(name: str, link: object) -> str | None:
        return name if isinstance(link, h5py.ExternalLink) else None

    def stored(name: str, thing: h5py.Dataset | h5py.Group) -> str | None:
        return name if isinstance(thing, h5py.Dataset) and (thing.external or thing.is_virtual) else None

    if name := file.visititems_links(linked) or file.visititems(stored):
        raise InputError(
            f"{shortened(name)} lies in another file, which is not read",
            where=where,
            hint="if you trust it, read this file with anndata and write a copy with write_h5ad, which holds it all",
        )


def declared_bytes(stored: h5py.Dataset | h5py.Group) -> int:
    """Memory that a dataset, or all of a group, says it needs."""
    if isinstance(stored, h5py.Group):
        return sum(map(declared_bytes, stored.values()))
    return (stored.size or 0) * (_STRING_BYTES if h5py.check_string_dtype(stored.dtype) else stored.dtype.itemsize)


def memory_limit() -> int:
    """Bytes of the machine, or of the control group or the SLURM job of this process, where these have fewer."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_limits_of_groups()]
    # In MiB; 0 stands for all that the node has.
    of_job = os.environ.get("SLURM_MEM_PER_NODE", "")
    return min([*limits, int(of_job) * 2**20] if of_job.isdigit() and int(of_job) else limits)


def _limits_of_groups() -> Iterator[int]:
    """Limits of the control group of this process and of those around it, of version 1 or 2; none that say ``max``."""
    member = _PROCESS / "cgroup"
    for line in member.read_text().splitlines() if member.exists() else ():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            root, name = (_GROUPS / "memory", "memory.limit_in_bytes") if controllers else (_GROUPS, "memory.max")
            own = root / path.strip("/")
            for folder in (own, *own.parents[: len(own.parts) - len(root.parts)]):
                limit = folder / name
                if limit.is_file() and limit.read_text().strip().isdigit():
                    yield int(limit.read_text())


def check_memory(needed: int, where: str) -> None:
    """Raise InputError if so many bytes are more than this process may have."""
    there = memory_limit()
    if needed > there:
        raise InputError(
            f"needs {needed / 1e9:,.0f} GB of memory, and there are {there / 1e9:,.0f} for this job",
            where=where,
            hint="check the shapes in the file; counts belong to the kinds rna, protein and epigenome, which keep them "
            "sparse, and kind features is for a few columns",
        )
