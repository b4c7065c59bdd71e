"""Shared by the scripts of baseline methods: command line, reading slices, and writing embedding.h5mu.

These scripts run in a separate interpreter, so they can't use Snakemake's ``script:`` directive. Import nothing heavy
before ``baseline_run`` has set the threads.
"""

import argparse
import json
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mosaic.errors import InputError
from mosaic.logs import job_log

if TYPE_CHECKING:
    import anndata as ad
    import numpy as np
    import pandas as pd

logger = logging.getLogger(__name__)

# Spots that a method cannot embed get the mean of this many nearest spatial neighbours; a larger proportion of them is
# an error.
_AMID = 5
_MOST_LACKING = 0.1
# A larger proportion of the spots of a slice is a batch of its own. Ten spots among thousands, taken for a batch,
# reduced the ARI of scMoMaT on the demo from .83 to .52.
_FEW = 0.05


def parse(arguments: Sequence[str] | None = None, description: str | None = None) -> argparse.Namespace:
    """Parse the command line of a baseline script; None: the arguments of this process."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--slices", nargs="*", default=[], help="files named {slice}.{modality}.h5ad")
    parser.add_argument("--reduced", nargs="*", default=[], help="files named {modality}.h5ad")
    parser.add_argument("--settings", type=json.loads, required=True, help="JSON: the sections of the config to use")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--output", required=True, help="embedding.h5mu")
    return parser.parse_args(arguments)


class BaselineRun:
    """The task of a baseline script: its arguments and input.

    Parameters
    ----------
    asked
        As ``parse`` returns it.
    """

    def __init__(self, asked: argparse.Namespace):
        self.asked = asked
        self.seed = asked.seed
        self.settings = asked.settings
        self.kinds = {name: modality["kind"] for name, modality in asked.settings["modalities"].items()}

    @property
    def gpu(self) -> bool:
        """Whether the config allows a GPU."""
        return self.settings["device"] != "cpu"

    def slices(self) -> "dict[str, list[ad.AnnData]]":
        """The slices of each modality, in the order of the config's modalities."""
        from mosaic import store

        found = store.read_slices(self.asked.slices)
        return {name: found[name] for name in self.kinds}

    def reduced(self) -> "dict[str, ad.AnnData]":
        """Output of ``reduce`` for each modality; its ``var`` has the selected features."""
        from mosaic import store

        return {name: store.read(path) for name, path in zip(self.kinds, self.asked.reduced, strict=True)}

    def selected(self) -> "dict[str, ad.AnnData]":
        """Each modality's slices, stacked, with the features that the config's ``feature_selection`` selects."""
        from mosaic import spots

        reduced = self.reduced()
        stacked = {name: spots.stack(slices, name) for name, slices in self.slices().items()}
        # Of those, the ones that all slices have.
        chosen = {name: own.var_names[own.var_names.isin(stacked[name].var_names)] for name, own in reduced.items()}
        return {name: adata[:, chosen[name]].copy() for name, adata in stacked.items()}

    def of_kind(self, kind: str) -> str:
        """The first modality of a kind."""
        return next(name for name, own in self.kinds.items() if own == kind)

    def write(self, graphs: "Mapping[str, ad.AnnData]", latent: "Mapping[str, np.ndarray]") -> None:
        """Write the latent spaces of the modalities; as for ``embedding.collect_embeddings``."""
        import numpy as np

        from mosaic import embedding, store

        for name, values in latent.items():
            if not np.isfinite(values).all():
                hint = "try another seed, or remove the method from methods"
                raise InputError("the method gave coordinates that are not finite", where=f"modality {name}", hint=hint)
        store.write(embedding.collect_embeddings(graphs, latent), self.asked.output)

    def write_joint(self, graphs: "Mapping[str, ad.AnnData]", latent: "pd.DataFrame") -> None:
        """Write one joint latent space: each modality has the same coordinates of a spot.

        Parameters
        ----------
        graphs
            Per modality all slices, with ``obs`` and ``obsm["spatial"]``.
        latent
            Coordinates, indexed by spot. Missing spots are filled from their neighbours, see ``fill_from_neighbors``.
        """
        latent = fill_from_neighbors(graphs, latent)
        self.write(graphs, {name: latent.loc[graph.obs_names].to_numpy() for name, graph in graphs.items()})


@contextmanager
def baseline_run(description: str | None) -> Iterator[BaselineRun]:
    """Context of a baseline script: command line, log, threads, and the seeds of Python and numpy."""
    asked = parse(description=description)
    with job_log(asked.log, threads=asked.threads, versions=asked.log.with_suffix(".versions.json")):
        import numpy as np

        random.seed(asked.seed)
        np.random.seed(asked.seed)
        yield BaselineRun(asked)


def batches(index: "pd.DataFrame") -> "tuple[list[pd.Index], list[tuple[pd.Index, int]]]":
    """Split the slices by what their spots measured, for methods whose batches have the same modalities in all spots.

    Quality control drops some spots in one modality only, so nearly every bridge slice has spots that lack a modality.

    Parameters
    ----------
    index
        All spots, as ``spots.union`` returns them.

    Returns
    -------
    batches
        Spots of a slice with the same modalities.
    few
        Such groups of at most a twentieth of their slice, each with the number of the largest batch of the slice.
    """
    sizes = index["slice"].value_counts()
    enough: list[pd.Index] = []
    few: list[tuple[str, pd.Index]] = []
    largest: dict[str, int] = {}
    for (name, _), own in index.groupby(["slice", "modalities"], observed=True, sort=False):
        if len(own) <= _FEW * sizes[name]:
            few.append((name, own.index))
            continue
        if name not in largest or len(own) > len(enough[largest[name]]):
            largest[name] = len(enough)
        enough.append(own.index)
    return enough, [(own, largest[name]) for name, own in few]


def fill_from_neighbors(graphs: "Mapping[str, ad.AnnData]", latent: "pd.DataFrame") -> "pd.DataFrame":
    """Give each spot that a method could not embed the mean of its 5 nearest embedded neighbours on the tissue.

    Parameters
    ----------
    graphs
        Per modality all slices, with ``obs`` and ``obsm["spatial"]``.
    latent
        Coordinates of the embedded spots, indexed by spot.

    Returns
    -------
    Coordinates of all spots.

    Raises
    ------
    InputError
        If more than a tenth of the spots of a slice were not embedded.
    """
    import numpy as np
    import pandas as pd
    from scipy.spatial import KDTree

    rows = {name: graph.obs[["slice"]].assign(row=range(graph.n_obs)) for name, graph in graphs.items()}
    places = pd.concat(
        [
            table.assign(x=graphs[name].obsm["spatial"][:, 0], y=graphs[name].obsm["spatial"][:, 1])
            for name, table in rows.items()
        ]
    )
    places = places[~places.index.duplicated()]
    parts = [latent]
    for name, own in places.groupby(places["slice"].astype(str)):
        known = own.index.isin(latent.index)
        if known.all():
            continue
        if (~known).mean() > _MOST_LACKING:
            raise InputError(
                f"the method can't embed {(~known).sum()} of {len(own)} spots, as they lack a modality that it needs",
                where=f"slice {name}",
                hint="relax the thresholds of that modality under qc, or remove the method from methods",
            )
        logger.warning(
            "%s: %d of %d spots lack a modality that the method needs: they get the mean of their spatial neighbours",
            name,
            (~known).sum(),
            len(own),
        )
        tree = KDTree(own.loc[known, ["x", "y"]])
        nearest = tree.query(own.loc[~known, ["x", "y"]], k=min(_AMID, known.sum()))[1].reshape((~known).sum(), -1)
        values = latent.loc[own.index[known]].to_numpy()[nearest].mean(axis=1)
        parts.append(pd.DataFrame(np.asarray(values), own.index[~known], latent.columns))
    return pd.concat(parts)
