"""SpaMosaic for notebooks, by the names that its users know (Yan et al., Nature Genetics 2026).

A thin interface to the functions that the workflow's rules call. Names and meanings follow the package spamosaic 1.0.3;
``docs/method.md`` lists the differences.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
from scipy import sparse

from mosaic import __version__, store
from mosaic.analyse.impute import impute_modality
from mosaic.analyse.reference_files import counts_to_impute, linked_embedding
from mosaic.config.defaults import KIND_DEFAULTS, PUBLISHED, PUBLISHED_HARMONY, PUBLISHED_KINDS
from mosaic.config.design import SampleRow, SampleSheet, design_faults
from mosaic.embedding import LATENT, collect_embeddings
from mosaic.errors import InputError
from mosaic.integrate.encoders import ENCODERS, WLGCN, Encoder
from mosaic.integrate.graph import build_graph, link_to_reference
from mosaic.integrate.model import embed, embed_new, load_model, save_model
from mosaic.integrate.training import fit
from mosaic.manifest import MODEL, checked, read_manifest, reading, write_manifest, writing
from mosaic.matrices import dense
from mosaic.pipeline import features_of
from mosaic.prepare.pairing import compare, report
from mosaic.prepare.read import count_matrix, feature_matrix
from mosaic.spatial import median_spot_distance
from mosaic.spots import shared_features, stack

__all__ = ["WLGCN", "ADT_preprocess", "Epigenome_preprocess", "RNA_preprocess", "SpaMosaic"]

_ONE_EACH = "one entry per slice, None where a slice lacks the modality"

Slices = Sequence[ad.AnnData | None]
Key = tuple[str, str]  # slice and modality

_WEIGHTS = "model.safetensors"


def RNA_preprocess(
    rna_ads: Slices,
    batch_corr: bool | str | Mapping = False,
    favor: str = "adapted",
    n_hvg: int | None = 5000,
    lognorm: bool = True,
    scale: bool = False,
    n_comps: int = 50,
    batch_key: str = "src",
    key: str = "dimred_bc",
    return_hvf: bool = False,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Reduce the RNA of all slices to features, written to ``obsm[key]`` of each slice.

    Parameters
    ----------
    rna_ads
        Slices with raw counts in X (spots x genes); None for a slice without RNA.
    batch_corr
        Correct batch effects of the slices: True for Harmony as published, or a value of the workflow's
        ``batch_correction``, such as ``auto``, which needs ``obsm["spatial"]``.
    favor
        ``scanpy``: counts per 10,000, log1p, highly variable genes, PCA. ``adapted``: highly variable genes by
        ``seurat_v3``, counts per 10,000, log1p, truncated SVD, each spot z-scored.
    n_hvg
        Number of highly variable genes; None for all.
    lognorm, scale
        For ``scanpy``: normalise; scale genes to unit variance.
    n_comps
        Number of components.
    batch_key
        Column of ``obs`` that names the slice.
    key
        Name in ``obsm`` for the features.
    return_hvf
        Return names and positions of the selected genes.

    Raises
    ------
    InputError
        If a list, an option or a matrix is not as described.
    """
    if favor not in {"scanpy", "adapted"}:
        _unknown("favor", favor, ["scanpy", "adapted"])
    if favor == "scanpy":
        chosen: dict[str, Any] = {
            "normalization": "log" if lognorm else "none",
            "feature_selection": "seurat" if n_hvg else "all",
            "scale": scale,
        }
    else:
        chosen = {"feature_selection": "seurat_v3" if n_hvg else "all", "reduction": "lsi"}
    chosen |= {"n_top_features": n_hvg or None, "n_comps": n_comps}
    names, found = _preprocess(rna_ads, "rna", chosen, batch_corr=batch_corr, batch_key=batch_key, key=key)
    return (names, found) if return_hvf else None


def ADT_preprocess(
    adt_ads: Slices,
    batch_corr: bool | str | Mapping = False,
    favor: str = "clr",
    lognorm: bool = True,
    scale: bool = False,
    n_comps: int = 50,
    batch_key: str = "src",
    key: str = "dimred_bc",
) -> None:
    """Reduce the surface proteins of all slices to features, written to ``obsm[key]`` of each slice.

    Parameters
    ----------
    adt_ads
        Slices with raw counts in X (spots x proteins); None for a slice without them.
    favor
        ``clr``: centred log ratio over the proteins of a spot. Any other value, as published: counts per 10,000 and
        log1p if ``lognorm``, scaled if ``scale``.
    batch_corr, lognorm, scale, n_comps, batch_key, key
        See ``RNA_preprocess``.

    Raises
    ------
    InputError
        As ``RNA_preprocess``.
    """
    chosen: dict[str, Any] = {"normalization": "clr"}
    if favor != "clr":
        chosen = {"normalization": "log" if lognorm else "none", "scale": scale}
    chosen |= {"n_comps": n_comps}
    _preprocess(adt_ads, "protein", chosen, batch_corr=batch_corr, batch_key=batch_key, key=key)


def Epigenome_preprocess(
    epi_ads: Slices,
    batch_corr: bool | str | Mapping = False,
    n_peak: int = 100_000,
    n_comps: int = 50,
    batch_key: str = "src",
    key: str = "dimred_bc",
    return_hvf: bool = False,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Reduce the chromatin of all slices to features, written to ``obsm[key]`` of each slice.

    Peaks selected by ``seurat_v3``, TF-IDF, log1p, truncated SVD without its first component, each spot z-scored.

    Parameters
    ----------
    epi_ads
        Slices with raw counts in X (spots x peaks); None for a slice without them.
    n_peak
        Number of highly variable peaks.
    batch_corr, n_comps, batch_key, key, return_hvf
        See ``RNA_preprocess``.

    Raises
    ------
    InputError
        As ``RNA_preprocess``.
    """
    chosen = PUBLISHED_KINDS["epigenome"] | {"n_top_features": n_peak, "n_comps": n_comps}
    names, found = _preprocess(epi_ads, "epigenome", chosen, batch_corr=batch_corr, batch_key=batch_key, key=key)
    return (names, found) if return_hvf else None


class SpaMosaic:
    """Graphs, training, embedding and imputation of a mosaic of slices.

    Parameters
    ----------
    modBatch_dict
        Per modality the list of slices, with None for a slice without it; all lists have the same length. Each slice
        has features in ``obsm[input_key]``, coordinates in ``obsm["spatial"]``, and unique ``obs_names``, by which the
        modalities of a slice are paired.
    input_key
        ``obsm`` with the features (spots x d).
    mnn_rep_key
        ``obsm`` searched for mutual nearest neighbours; None: ``input_key``.
    batch_key
        Column of ``obs`` with the name of the slice.
    radius_cutoff
        Largest distance of spatial neighbours, in the unit of the coordinates; None for no limit.
    intra_knns
        Spatial neighbours per spot, one number or one per slice.
    inter_knn_base, inter_auto_knn, inter_auto_thr, smooth_input, smooth_L, rmv_outlier, contamination
        See ``graph.build_graph``.
    w_g
        Weight of expression edges.
    log_dir, num_workers
        Without effect, for compatibility.
    seed
        Of weights, dropout and batches.
    device
        ``cpu``, ``cuda``, ``cuda:0``, … or ``auto``. A GPU that is not there is an error.

    Raises
    ------
    InputError
        If the lists, names or shapes do not fit together, or no chain of slices joins the modalities.
    """

    def __init__(
        self,
        modBatch_dict: Mapping[str, Slices],
        input_key: str = "dimred_bc",
        mnn_rep_key: str | None = None,
        batch_key: str = "batch",
        radius_cutoff: float | None = 2000,
        intra_knns: int | Sequence[int] = 10,
        inter_knn_base: int = 10,
        smooth_input: bool = False,
        smooth_L: int = 1,
        inter_auto_knn: bool = False,
        inter_auto_thr: float = 0.8,
        rmv_outlier: bool = False,
        contamination: float | str = "auto",
        w_g: float = 0.8,
        log_dir: str | None = None,
        seed: int = 1234,
        num_workers: int = 6,
        device: str = "auto",
    ):
        del log_dir, num_workers
        self.batch_key = batch_key
        self.slices = _slice_names(modBatch_dict, batch_key)
        sheet = SampleSheet(
            SampleRow(name, modality, f"modBatch_dict[{modality!r}][{number}]")
            for modality, adatas in modBatch_dict.items()
            for number, (name, adata) in enumerate(zip(self.slices, adatas, strict=True))
            if adata is not None
        )
        for fault in design_faults(sheet, "modBatch_dict"):
            raise fault
        knns = list(intra_knns) if isinstance(intra_knns, Iterable) else [intra_knns] * len(self.slices)
        if len(knns) != len(self.slices):
            raise InputError(
                f"has {len(knns)} values for {len(self.slices)} slices", where="intra_knns", hint=_ONE_EACH
            )
        self.seed, self.device = int(seed), device.partition(":")[0]
        # As JSON has them.
        self._settings: dict[str, Any] = {
            "input_key": input_key,
            "mnn_rep_key": mnn_rep_key,
            "batch_key": batch_key,
            "radius_cutoff": None if radius_cutoff is None else float(radius_cutoff),
            "intra_knns": dict(zip(self.slices, map(int, knns), strict=True)),
            "inter_knn_base": int(inter_knn_base),
            "smooth_input": bool(smooth_input),
            "smooth_L": int(smooth_L),
            "inter_auto_knn": bool(inter_auto_knn),
            "inter_auto_thr": float(inter_auto_thr),
            "rmv_outlier": bool(rmv_outlier),
            "contamination": contamination if isinstance(contamination, str) else float(contamination),
            "w_g": float(w_g),
        }
        self.graphs = {}
        parts = self._parts(modBatch_dict, self.slices)
        for modality, part in parts.items():
            pairs, searched = sheet.mnn_pairs(modality) if w_g else [], part.obsm.get("X_searched")
            graph = build_graph(part, part.obsm["X_corrected"], pairs, searched=searched, **self._graph_settings(part))
            if searched is not None:
                graph.obsm["X_searched"] = searched
            self.graphs[modality] = graph
        # Whose counts impute new slices: the slices given, or what a file of the model has.
        self._measured: Mapping[str, Slices] = modBatch_dict
        self._counts: dict[str, ad.AnnData] | None = None
        self.encoders: dict[str, Encoder] | None = None
        self.history: pd.DataFrame | None = None

    def train(
        self,
        net: str = "wlgcn",
        lr: float = 0.01,
        use_mini_thr: int = 8000,
        mini_batch_size: int = 1024,
        loss_type: str = "adapted",
        T: float = 0.01,
        bias: float = 0,
        n_epochs: int | None = None,
        w_rec_g: float = 0.0,
    ) -> None:
        """Train the encoders; the losses are in ``history`` then (see ``training.fit``).

        Parameters
        ----------
        net
            See ``encoders.ENCODERS``; ``wlgcn`` is the one of the publication.
        lr, T, n_epochs, w_rec_g
            See ``training.fit``. Above ``use_mini_thr`` spots an epoch has one step per batch, instead of one step.
        use_mini_thr, mini_batch_size
            ``full_batch_max`` and ``batch_size`` of ``batches.Batches``.
        loss_type, bias
            Only ``adapted`` and 0: the contrastive loss as published.

        Raises
        ------
        InputError
            If an option is not known, or as ``training.fit``.
        """
        for name, value, known in (
            ("net", net, list(ENCODERS)),
            ("loss_type", loss_type, ["adapted"]),
            ("bias", bias, [0]),
        ):
            if value not in known:
                _unknown(name, value, known)
        self.encoders, self.history = fit(
            self.graphs,
            seed=self.seed,
            encoder={"net": net},
            device=self.device,
            lr=lr,
            n_epochs=n_epochs,
            T=T,
            w_rec_g=w_rec_g,
            reconstruct=PUBLISHED["train"]["reconstruct"],
            full_batch_max=use_mini_thr,
            batch_size=mini_batch_size,
        )

    def infer_emb(
        self,
        modBatch_dict: Mapping[str, Slices],
        emb_key: str = "emb",
        final_latent_key: str = "merged_emb",
        cat: bool = False,
    ) -> list[ad.AnnData]:
        """Embed every spot.

        Parameters
        ----------
        modBatch_dict
            The slices of the model, or new ones alone, of any of its modalities, whose features in ``obsm[input_key]``
            are of the same space, and corrected. New slices are linked to those of the model by mutual nearest
            neighbours and embedded by its encoders. Latent coordinates (spots x 32) are written to ``obsm[emb_key]``.
        final_latent_key
            Name of the merged latent space.
        cat
            Concatenate the coordinates of the modalities, instead of averaging them.

        Returns
        -------
        Per slice an AnnData of its spots, each once however many modalities measured it, in the order of the first
        modality, with ``obsm[final_latent_key]`` and ``obsm["spatial"]``.

        Raises
        ------
        InputError
            If the model is not trained, the slices do not fit it, or ``cat`` meets spots that lack a modality.
        """
        encoders = self._trained("infer_emb")
        if new := self._new(modBatch_dict):
            parts = self._parts(modBatch_dict, new)
            embedding = embed_new({name: self._linked(name, part) for name, part in parts.items()}, encoders)
        else:
            self._check_same(modBatch_dict)
            embedding = embed(self.graphs, encoders)
        merged = []
        for number, name in enumerate(new or self.slices):
            adatas = {key: own for key, rows in modBatch_dict.items() if (own := rows[number]) is not None}
            for modality, adata in adatas.items():
                adata.obsm[emb_key] = np.asarray(embedding[modality][_obs(adata, name).index].obsm[LATENT])
            joint = embedding[(embedding.obs["slice"] == name).to_numpy()]
            obs = pd.concat([adata.obs for adata in adatas.values()])
            obs = obs[~obs.index.duplicated()].loc[joint.obs["barcode"]]
            latent = joint.obsm[LATENT]
            if cat:
                if any(adata.n_obs < len(obs) for adata in adatas.values()):
                    hint = "keep the spots that all modalities measured, or set cat to False"
                    raise InputError("some spots lack a modality", where=f"cat, slice {name}", hint=hint)
                latent = np.hstack([adata[obs.index].obsm[emb_key] for adata in adatas.values()])
            obsm = {final_latent_key: np.asarray(latent), "spatial": np.asarray(joint.obsm["spatial"])}
            merged.append(ad.AnnData(obs=obs, obsm=obsm))
        return merged

    def impute(
        self,
        modBatch_dict: Mapping[str, Slices],
        emb_key: str = "emb",
        layer_key: str = "counts",
        imp_knn: int = 10,
        *,
        method: str = "nearest",
        smooth_neighbors: int = 5,
    ) -> dict[str, list[np.ndarray | None]]:
        """Impute the modalities that slices lack.

        Parameters
        ----------
        modBatch_dict
            The slices of the model, or new ones alone, with latent coordinates in ``obsm[emb_key]`` and counts in
            ``layers[layer_key]``. New slices get counts of those of the model.
        imp_knn, method, smooth_neighbors
            See ``impute.impute_modality``; the published way unless ``method`` says otherwise.

        Returns
        -------
        Per modality of the model a list with an array (spots x features shared by the donors) for each slice that lacks
        it and None for the others; spots in the order of ``infer_emb``.

        Raises
        ------
        InputError
            If a slice lacks coordinates or counts, the slices do not fit the model, or it has no counts.
        """
        if method not in {"nearest", "matching"}:
            _unknown("method", method, ["nearest", "matching"])
        new = self._new(modBatch_dict)
        if not new:
            self._check_same(modBatch_dict)
        names = new or self.slices
        own = _counts_of(modBatch_dict, names, layer_key, emb_key)
        latent = {
            modality: np.vstack([adata.obsm[emb_key] for adata in adatas if adata is not None])
            for modality, adatas in modBatch_dict.items()
            if own[modality]
        }
        spots = self._parts(modBatch_dict, new) if new else self.graphs
        task = _Task(collect_embeddings(spots, latent), own)
        if new:
            task = task._replace(donors=self._donors(layer_key), known=embed(self.graphs, self._trained("impute")))
            if not task.donors:
                problem = "the model was saved without counts, so that it imputes nothing in new slices"
                raise InputError(problem, where="impute", hint="save it with layer_key, the layer of the counts")
        options = {"method": method, "n_neighbors": imp_knn, "smooth_neighbors": smooth_neighbors}
        return {
            modality: [
                None if name in own.get(modality, {}) else task.imputed(name, modality, options) for name in names
            ]
            for modality in self.graphs
        }

    def save(self, path: str | Path, *, layer_key: str | None = "counts") -> None:
        """Write the trained model to a folder or, if the path ends with ``.zip``, to one file; without pickle.

        Parameters
        ----------
        path
            Of the folder or zip. An earlier model there is replaced.
        layer_key
            Layer of the slices with the counts from which ``impute`` serves new slices. None leaves them out, where
            counts must not leave; ``impute`` then needs the slices of the model.

        Raises
        ------
        InputError
            If the model is not trained, a slice lacks the counts, or the folder has other files.
        """
        encoders = self._trained("save")
        counts = {} if layer_key is None else self._donors(layer_key)
        with writing(path, MODEL) as folder:
            save_model(encoders, {"seed": self.seed}, self.graphs, folder / _WEIGHTS)
            for name, graph in self.graphs.items():
                store.write(graph, folder / f"graph.{name}.h5ad")
            for name, adata in counts.items():
                store.write(adata, folder / f"counts.{name}.h5ad")
            told = {
                "version": __version__,
                "seed": self.seed,
                "settings": self._settings,
                "slices": self.slices,
                "modalities": list(self.graphs),
                "counts": list(counts),
                "history": None if self.history is None else self.history.to_dict("list"),
            }
            write_manifest(folder, told, MODEL)

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> "SpaMosaic":
        """Read a model that ``save`` wrote.

        Parameters
        ----------
        path
            Of the folder or zip.
        device
            For a further training, as of the class.

        Raises
        ------
        InputError
            If it is damaged, cut short, of a newer format, or no model.
        """
        model = cls.__new__(cls)
        with reading(path, MODEL) as folder:
            told = read_manifest(folder, MODEL)

            def read(part: str) -> dict[str, ad.AnnData]:
                names = told["modalities" if part == "graph" else part]
                return {name: store.read(checked(folder, f"{part}.{name}.h5ad", MODEL)) for name in names}

            model.graphs = read("graph")
            model._counts = read("counts")
            model.encoders = load_model(checked(folder, _WEIGHTS, MODEL), model.graphs)
        model.slices, model.seed, model.device = told["slices"], told["seed"], device.partition(":")[0]
        model._settings, model._measured = told["settings"], {}
        model.batch_key = model._settings["batch_key"]
        model.history = pd.DataFrame(told["history"])
        return model

    def _trained(self, where: str) -> dict[str, Encoder]:
        if self.encoders is None:
            raise InputError("the model is not trained", where=where, hint="call train first")
        return self.encoders

    def _parts(self, modBatch_dict: Mapping[str, Slices], names: Sequence[str]) -> dict[str, ad.AnnData]:
        """Per modality its slices, checked and stacked, with ``obsm["X_corrected"]`` and maybe ``["X_searched"]``."""
        key, searched = self._settings["input_key"], self._settings["mnn_rep_key"]
        measured = {}
        for where, name, modality, adata in _entries(modBatch_dict, names):
            _check_slice(adata, where, key, searched or key, "spatial")
            measured[name, modality] = adata
        _check_copies(measured, key)
        # Entries at the same position of the lists are one slice: compare barcodes and coordinates to detect errors.
        places = {
            own: ad.AnnData(obs=_obs(a, own[0]), obsm={"spatial": a.obsm["spatial"]}) for own, a in measured.items()
        }
        report(compare(places), "modBatch_dict")
        parts = {}
        for modality in dict.fromkeys(of for _, of in measured):
            own = {name: adata for (name, of), adata in measured.items() if of == modality}
            widths = {name: adata.obsm[key].shape[1] for name, adata in own.items()}
            if modality in self.graphs:
                widths["the model"] = self._n_features(modality)
            if len(set(widths.values())) > 1:
                shown = ", ".join(f"{width} in {name}" for name, width in widths.items())
                raise InputError(
                    f"obsm[{key!r}] differs in width: {shown}",
                    where=f"modBatch_dict[{modality!r}]",
                    hint="make the features of all slices together, with the *_preprocess functions",
                )
            obsm = {"spatial": [np.asarray(adata.obsm["spatial"], float)[:, :2] for adata in own.values()]}
            obsm["X_corrected"] = [np.asarray(adata.obsm[key], dtype=np.float32) for adata in own.values()]
            if searched is not None:
                obsm["X_searched"] = [np.asarray(adata.obsm[searched], dtype=np.float32) for adata in own.values()]
            obs = pd.concat([_obs(adata, name) for name, adata in own.items()])
            parts[modality] = ad.AnnData(obs=obs, obsm={name: np.vstack(rows) for name, rows in obsm.items()})
        return parts

    def _n_features(self, modality: str) -> int:
        """Width of the features of a modality, without their propagations."""
        steps = 1 + self._settings["smooth_L"] * self._settings["smooth_input"]
        return self.graphs[modality].n_vars // steps

    def _graph_settings(self, *parts: ad.AnnData) -> dict[str, Any]:
        """What ``build_graph`` takes for the slices of these parts; new slices have the median of neighbours."""
        own = dict(self._settings)
        for name in ("input_key", "mnn_rep_key", "batch_key"):
            del own[name]
        knns, radius, radii = own["intra_knns"], own.pop("radius_cutoff"), {}
        middle = sorted(knns.values())[len(knns) // 2]
        for part in parts:
            for name in map(str, part.obs["slice"].unique()):
                here = (part.obs["slice"] == name).to_numpy()
                radii[name] = radius and radius / median_spot_distance(part.obsm["spatial"][here])
        knns = {name: knns.get(name, middle) for name in radii}
        return {**own, "intra_knns": knns, "radius": radius and radii, **PUBLISHED["graph"]}

    def _linked(self, modality: str, part: ad.AnnData) -> ad.AnnData:
        """The graph of new slices, linked to those of the model."""
        graph, searched = self.graphs[modality], self._settings["mnn_rep_key"]
        obsm = {key: graph.obsm[key] for key in ("spatial", *(["X_searched"] if searched else []))}
        obsm["X_corrected"] = np.asarray(graph.X)[:, : self._n_features(modality)]
        known = ad.AnnData(obs=graph.obs, obsm=obsm)
        key = "X_searched" if searched else "X_corrected"
        return link_to_reference(part, known, searched=key, **self._graph_settings(known, part))

    def _new(self, modBatch_dict: Mapping[str, Slices]) -> list[str]:
        """Names of the slices if none is of the model; empty otherwise."""
        names = _slice_names(modBatch_dict, self.batch_key)
        given = {name for _, name, *_ in _entries(modBatch_dict, names)}
        if not given or given & set(self.slices):
            return []
        if unknown := [modality for modality in modBatch_dict if modality not in self.graphs]:
            hint = f"it has {', '.join(self.graphs)}"
            raise InputError(f"the model has no {', '.join(unknown)}", where="modBatch_dict", hint=hint)
        return names

    def _donors(self, layer_key: str) -> dict[str, ad.AnnData]:
        """Per modality the counts of the slices of the model; empty if it was saved without."""
        if self._counts is None:
            made = _counts_of(self._measured, self.slices, layer_key)
            return {modality: stack(own.values(), modality) for modality, own in made.items()}
        return self._counts

    def _check_same(self, modBatch_dict: Mapping[str, Slices]) -> None:
        """Check that the slices have the spots of the graphs, in the same order."""
        same = _slice_names(modBatch_dict, self.batch_key) == self.slices
        for modality, graph in self.graphs.items():
            adatas = zip(self.slices, modBatch_dict.get(modality, []), strict=False)
            names = [spot for name, adata in adatas if adata is not None for spot in _obs(adata, name).index]
            if not same or names != graph.obs_names.tolist():
                raise InputError(
                    f"the spots of {modality} are not those that the model was made with",
                    where="modBatch_dict",
                    hint="pass the same slices in the same order, or make a new SpaMosaic of these",
                )


def _preprocess(
    adatas: Slices, kind: str, chosen: Mapping, *, batch_corr: bool | str | Mapping, batch_key: str, key: str
) -> tuple[np.ndarray, np.ndarray]:
    """Write features of all slices to ``obsm[key]``; return names and positions of the selected features."""
    present = [adata for adata in adatas if adata is not None]
    if not present:
        raise InputError(
            "no slice was given", where=f"{kind} slices", hint="a list of AnnData, None where one lacks it"
        )
    names = _slice_names({kind: adatas}, batch_key)
    method = {True: PUBLISHED_HARMONY, False: "none"}[batch_corr] if isinstance(batch_corr, bool) else batch_corr
    settings = KIND_DEFAULTS[kind] | dict(chosen) | {"batch_correction": method}
    slices = []
    for number, (name, adata) in enumerate(zip(names, adatas, strict=True)):
        if adata is None:
            continue
        where = f"{kind} slice {number}"
        if method in ("auto", "pair_shift") and len(present) > 1 and "spatial" not in adata.obsm:
            hint = 'put coordinates (spots x 2) into obsm["spatial"], or set batch_corr to True'
            raise InputError(f"batch_corr {method} needs obsm['spatial']", where=where, hint=hint)
        if settings["normalization"] == "none" and settings["feature_selection"] != "seurat_v3":
            matrix = feature_matrix(adata, where)
            layers = {}
        else:
            matrix = count_matrix(ad.AnnData(adata.X), where)
            layers = {"counts": matrix}
        spatial = np.asarray(adata.obsm.get("spatial", np.zeros((adata.n_obs, 2))))
        made = ad.AnnData(matrix, obs=_obs(adata, name), var=adata.var[[]], layers=layers, obsm={"spatial": spatial})
        slices.append(made)
    report(compare({(made.obs["slice"].iloc[0], kind): made for made in slices}), f"the {kind} slices")
    reduced = features_of(slices, kind, kind=kind, **settings)
    features = reduced.obsm["X_corrected"]
    start = 0
    for adata in present:
        adata.obsm[key] = features[start : start + adata.n_obs]
        start += adata.n_obs
    return reduced.var_names.to_numpy(), shared_features(slices).get_indexer(reduced.var_names)


def _slice_names(modBatch_dict: Mapping[str, Slices], batch_key: str) -> list[str]:
    """Name of each slice, from the first modality that measured it."""
    if not isinstance(modBatch_dict, Mapping) or not modBatch_dict:
        raise InputError(
            f"is {type(modBatch_dict).__name__} instead of a dict of lists",
            where="modBatch_dict",
            hint="write {'rna': [ad1, ad2], 'adt': [ad1_adt, None]}",
        )
    lengths = {modality: len(adatas) for modality, adatas in modBatch_dict.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{modality} has {length}" for modality, length in lengths.items())
        raise InputError(f"the lists differ in length: {shown}", where="modBatch_dict", hint=_ONE_EACH)
    names = []
    for number in range(next(iter(lengths.values()))):
        found = [(key, own) for key, adatas in modBatch_dict.items() if (own := adatas[number]) is not None]
        where = f"modBatch_dict, entry {number}"
        if not found:
            if len(modBatch_dict) > 1:
                raise InputError("no modality has this slice", where=where, hint="take the entry out of all lists")
            names.append(f"(none) {number}")
            continue
        for modality, adata in found:
            if not isinstance(adata, ad.AnnData):
                raise InputError(f"{modality} is {type(adata).__name__}, not AnnData", where=where, hint=_ONE_EACH)
            if batch_key not in adata.obs:
                hint = f"name the slice, adata.obs[{batch_key!r}] = 's1', or set batch_key to a column of obs"
                raise InputError(f"{modality} has no obs[{batch_key!r}]", where=where, hint=hint)
            values = adata.obs[batch_key].astype(str).unique()
            if len(values) != 1:
                hint = "one AnnData per slice, and one name in all of its spots"
                raise InputError(f"obs[{batch_key!r}] of {modality} names {len(values)} slices", where=where, hint=hint)
            if not adata.obs_names.is_unique:
                hint = "make the names of a slice's spots unique, alike in its modalities"
                raise InputError(f"obs_names of {modality} are not unique", where=where, hint=hint)
        names.append(str(found[0][1].obs[batch_key].iloc[0]))
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        hint = "give each slice its own name"
        raise InputError(f"two slices are named {repeated!r}", where=f"obs[{batch_key!r}]", hint=hint)
    for modality, adatas in modBatch_dict.items():
        for number, adata in enumerate(adatas):
            own = names[number] if adata is None else str(adata.obs[batch_key].iloc[0])
            if own != names[number] and own in names:
                raise InputError(
                    f"is slice {own!r} by obs[{batch_key!r}], but entry {names.index(own)} of the lists is that slice",
                    where=f"modBatch_dict[{modality!r}][{number}]",
                    hint="give the slices of all modalities in the same order, None where a slice lacks one",
                )
    return names


def _entries(modBatch_dict: Mapping[str, Slices], names: Sequence[str]) -> Iterator[tuple[str, str, str, ad.AnnData]]:
    """The slices that are there: where, for messages; slice, modality, and its data."""
    for modality, adatas in modBatch_dict.items():
        for number, (name, adata) in enumerate(zip(names, adatas, strict=True)):
            if adata is not None:
                yield f"modBatch_dict[{modality!r}][{number}]", name, modality, adata


def _counts_of(
    modBatch_dict: Mapping[str, Slices], names: Sequence[str], layer_key: str, *needed: str
) -> dict[str, dict[str, ad.AnnData]]:
    """Per modality and slice the counts, by the names of spots; ``needed`` are keys of ``obsm`` to be there."""
    counts: dict[str, dict[str, ad.AnnData]] = {modality: {} for modality in modBatch_dict}
    for where, name, modality, adata in _entries(modBatch_dict, names):
        _check_slice(adata, where, *needed)
        if layer_key not in adata.layers:
            hint = f"put the counts there: adata.layers[{layer_key!r}] = adata.X.copy()"
            raise InputError(f"layers[{layer_key!r}] is missing", where=where, hint=hint)
        layers = {"counts": sparse.csr_matrix(adata.layers[layer_key])}
        counts[modality][name] = ad.AnnData(obs=_obs(adata, name), var=adata.var[[]], layers=layers)
    return counts


class _Task(NamedTuple):
    """What is imputed from: of new slices also the counts of the model's (``donors``), and their embedding."""

    embedding: md.MuData
    own: Mapping[str, Mapping[str, ad.AnnData]]
    donors: Mapping[str, ad.AnnData] | None = None
    known: md.MuData | None = None

    def imputed(self, name: str, modality: str, options: Mapping[str, Any]) -> np.ndarray:
        """Counts of a modality that a slice lacks (spots x features)."""
        embedding = self.embedding
        if self.donors is None or self.known is None:
            counts = {key: stack(parts.values(), key) for key, parts in self.own.items()}
        else:
            measured = {key: parts[name] for key, parts in self.own.items() if name in parts}
            counts = counts_to_impute(modality, list(measured), self.donors, measured)
            embedding = linked_embedding(embedding, self.known.mod, [*measured, modality])
        return dense(impute_modality(embedding, name, modality, counts, **options).layers["imputed"])


def _check_copies(measured: Mapping[tuple[str, str], ad.AnnData], key: str) -> None:
    """Refuse the same data under two modalities: they would align perfectly, and mean nothing."""
    for (first, one), (second, other) in combinations(measured.items(), 2):
        if first[1] == second[1]:
            continue
        same = one is other or _equal(one.obsm[key], other.obsm[key])
        if same or (one.var_names.equals(other.var_names) and _equal(one.X, other.X)):
            raise InputError(
                f"{first[1]} of {first[0]} and {second[1]} of {second[0]} are the same data",
                where="modBatch_dict",
                hint="put the AnnData of each modality into its own list",
            )


def _equal(one: np.ndarray | sparse.spmatrix | None, other: np.ndarray | sparse.spmatrix | None) -> bool:
    if one is None or other is None or one.shape != other.shape or 0 in one.shape:
        return False
    if sparse.issparse(one) and sparse.issparse(other):
        return (one != other).nnz == 0
    return bool((dense(one) == dense(other)).all())


def _check_slice(adata: ad.AnnData, where: str, *keys: str) -> None:
    for key in dict.fromkeys(keys):
        if key not in adata.obsm:
            known = ", ".join(adata.obsm) or "nothing"
            if key == "spatial":
                hint = 'put coordinates (spots x 2) into obsm["spatial"]'
            else:
                hint = "make it with the *_preprocess functions or infer_emb, or name another key"
            raise InputError(f"obsm[{key!r}] is missing (obsm has {known})", where=where, hint=hint)
        values = np.asarray(adata.obsm[key])
        if values.ndim != 2 or values.shape[1] < 2 or not np.issubdtype(values.dtype, np.number):
            problem = f"obsm[{key!r}] has shape {values.shape} and type {values.dtype}"
            raise InputError(problem, where=where, hint="it must be numbers, spots x 2 or more")
        if not np.isfinite(values).all():
            raise InputError(
                f"obsm[{key!r}] holds NaN or infinite values", where=where, hint="drop or mend these spots"
            )


def _obs(adata: ad.AnnData, slice_name: str) -> pd.DataFrame:
    """Slice and barcode of each spot, indexed by ``{slice}:{barcode}``."""
    barcodes = adata.obs_names.to_numpy(dtype=str)
    obs = pd.DataFrame({"slice": pd.Categorical([slice_name] * len(barcodes)), "barcode": barcodes})
    return obs.set_index(pd.Index([f"{slice_name}:{barcode}" for barcode in barcodes]))


def _unknown(name: str, value: object, known: Sequence) -> NoReturn:
    raise InputError(f"{value!r} is not known", where=name, hint=f"one of: {', '.join(map(repr, known))}")
