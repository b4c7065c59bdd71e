"""Is a spot as often right as its confidence says? Of a run with truth, for docs/measurements.md.

    .venv/bin/python benchmarks/reliability.py RESULTS OUT.tsv [TRUTH]

RESULTS is the folder of a run; TRUTH the obs column of the true domains (``domain``). Domains are named after the true
ones one to one, by most shared spots. Spots are ``checked`` where held-out validation affects their confidence.
"""

import sys
from pathlib import Path

import library  # noqa: F401
import pandas as pd

from mosaic import matrices, spots, tables

EDGES = (0, 0.5, 0.7, 0.9, 1)


def reliability(table: pd.DataFrame, truth: pd.Series) -> pd.DataFrame:
    """Share of spots that are right, by bins of the posterior and of the confidence.

    Parameters
    ----------
    table
        As the rule ``confidence`` writes it.
    truth
        Of the same spots; those without one are left out.
    """
    table, truth = table[truth.notna()], truth.dropna()
    names = matrices.match_labels(pd.crosstab(table["domain"], truth))
    right = table["domain"].map(names) == truth
    rows = []
    for which, chosen in (("checked", table["agreement"].notna()), ("all", pd.Series(True, index=table.index))):
        for by in ("probability", "confidence"):
            bins = pd.cut(table.loc[chosen, by], EDGES, include_lowest=True)
            found = right[chosen].groupby(bins, observed=False).agg(["mean", "size"])
            rows += [(which, by, bound.right, *row) for bound, row in zip(found.index, found.to_numpy(), strict=True)]
    return pd.DataFrame(rows, columns=["spots", "by", "up_to", "right", "n_spots"]).astype({"n_spots": int})


def main(results: Path, out: Path, column: str = "domain") -> None:
    """Measure every seed of a run."""
    seeds = []
    for path in sorted(results.glob("spamosaic/seed-*/confidence.tsv")):
        table = tables.read_table(path)
        truth = spots.truth(sorted((results / "reduced").glob("*.h5ad")), table.index, column)
        seeds.append(reliability(table, truth).assign(seed=int(path.parent.name.removeprefix("seed-"))))
    found = pd.concat(seeds)
    found.to_csv(out, sep="\t", index=False, float_format="%.4g")
    mean = found.pivot_table(index=["spots", "by"], columns="up_to", values=["right", "n_spots"], aggfunc="mean")
    print(mean.round(2).to_string())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
