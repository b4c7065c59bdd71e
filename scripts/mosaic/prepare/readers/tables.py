"""A matrix of counts as a table in text, read in chunks and kept sparse."""

import numpy as np
import pandas as pd
from scipy import sparse

from mosaic.errors import InputError, few
from mosaic.prepare.readers.tenx import opened

# Values of a table that are dense in memory at once.
_CHUNK_VALUES = 20_000_000


def separator(path: str) -> str:
    """What separates the cells of a table, by its first line."""
    with opened(path) as file:
        first = file.readline().decode("utf-8-sig")
    return max("\t,; ", key=first.count)


def header(path: str) -> list[str]:
    """Names of the columns of a table."""
    with opened(path) as file:
        table = pd.read_csv(file, sep=separator(path), nrows=0, index_col=False, encoding="utf-8-sig")
    return [str(name) for name in table.columns]


def counts(path: str, names: int = 1) -> tuple[pd.DataFrame, list[str], sparse.csr_matrix]:
    """Read a table whose first columns name its rows, and whose others are numbers.

    Parameters
    ----------
    path
        Text with commas or tabs, with a header; packed by gzip or not.
    names
        Number of columns that name the rows.

    Returns
    -------
    The columns that name the rows, as text; the names of the others; and the numbers (rows x columns, float32).

    Raises
    ------
    InputError
        If a cell is no number.
    """
    columns = header(path)
    first, others = columns[:names], columns[names:]
    rows = max(1, _CHUNK_VALUES // max(1, len(others)))
    labels, blocks = [], []
    with opened(path) as file:
        types = dict.fromkeys(first, str)
        # nan is a gene of the fly.
        chunks = pd.read_csv(
            file, sep=separator(path), dtype=types, chunksize=rows, encoding="utf-8-sig", keep_default_na=False
        )
        for chunk in chunks:
            if not isinstance(chunk.index, pd.RangeIndex):
                hint = "each column needs a name in the first line, the first one too"
                raise InputError("has rows longer than its first line", where=path, hint=hint)
            if chunk.empty:
                continue
            values = chunk[others]
            wrong = [name for name in others if values[name].dtype.kind not in "iufb" or values[name].isna().any()]
            if wrong:
                problem = f"the columns {few(wrong)} hold what is no number"
                raise InputError(problem, where=path, hint="the table must hold counts, and names in its first column")
            labels.append(chunk[first])
            blocks.append(sparse.csr_matrix(values.to_numpy(dtype=np.float32)))
    if not blocks:
        raise InputError("has a first line and no rows", where=path, hint="copy or download it again")
    return pd.concat(labels, ignore_index=True), others, sparse.vstack(blocks, format="csr")
