"""The workflow's chain of steps as calls, in memory: for notebooks, studies and tests.

    from mosaic.pipeline import Pipeline

    run = Pipeline.from_config("config/config.yaml")
    run.domains()  # each spot's domain, as in domains.tsv of the config's first seed

A method has the result of one rule. It runs the steps before it, keeps their results, and gives the numbers that the
workflow writes to the rule's files.

| rule | method | result |
|---|---|---|
| read, annotate | ``slices``, ``annotations`` | slices as read; the columns of ``obs`` that the config names |
| qc | ``passed``, ``counts`` | slices that passed, by slice and stacked by modality |
| pair | ``pairing`` | what barcodes, coordinates and features have in common |
| normalize, reduce | ``normalized``, ``reduced`` | normalised slices; features of each modality |
| build_graph | ``graphs`` | graph of each modality |
| train, embed | ``trained``, ``embedding`` | encoders and losses; latent space |
| cluster | ``domains``, ``n_domains_curve``, ``n_domains_tree``, ``aligned`` | domains; latent space aligned by them |
| project_latent | ``umap`` | UMAP |
| impute | ``imputed`` | counts of a modality that a slice lacks |
| evaluate | ``metrics`` | scores |
| export_reference | ``reference`` | what later runs map new slices onto |
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anndata as ad
import mudata as md
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from mosaic.analyse.alignment import aligned_embedding
from mosaic.analyse.domains import Domains, domains_of
from mosaic.analyse.impute import impute_modality
from mosaic.analyse.mapped_domains import reference_features, reference_spots
from mosaic.analyse.metrics import evaluate
from mosaic.analyse.reference_files import donor_counts, donors_of
from mosaic.analyse.umap import umap_coordinates
from mosaic.config.clusterers import CLUSTERERS
from mosaic.config.defaults import COUNTING
from mosaic.config.design import SampleRow, SampleSheet
from mosaic.config.schema import read_yaml, with_changes
from mosaic.config.settings import SCHEMAS, load
from mosaic.embedding import LATENT
from mosaic.errors import InputError
from mosaic.integrate.encoders import Encoder
from mosaic.integrate.graph import build_graph
from mosaic.integrate.model import embed
from mosaic.integrate.training import fit
from mosaic.prepare.feature_names import NAMED, match_features, with_names
from mosaic.prepare.inputs import annotate
from mosaic.prepare.mapping import mappable
from mosaic.prepare.normalize import normalize_slice
from mosaic.prepare.pairing import Comparison, compare, fingerprint, report
from mosaic.prepare.qc import filter_slice
from mosaic.prepare.read import Source, read_features, read_slice
from mosaic.prepare.reduce import reduce_modality
from mosaic.reference import Reference
from mosaic.spots import stack, union

Key = tuple[str, str]  # slice and modality


class Passed(NamedTuple):
    """One modality of one slice after quality control, as ``qc.filter_slice`` returns it.

    Attributes
    ----------
    adata
        Spots x features that passed, with ``layers["counts"]`` (kind ``features``: X alone).
    metrics
        For each spot as read its metrics, ``kept`` (bool) and ``reasons``.
    summary
        Numbers, thresholds, and what was dropped.
    """

    adata: ad.AnnData
    metrics: pd.DataFrame
    summary: dict


class Trained(NamedTuple):
    """Encoders by modality, and the losses by epoch, as ``training.fit`` returns them."""

    encoders: dict[str, Encoder]
    history: pd.DataFrame


class Pipeline:
    """A run of the workflow in memory. Make it by ``from_config`` or ``from_slices``.

    Each method computes its step at the first call and then returns the same object: copy it before you change it.
    ``seed`` is one of the config's ``seeds`` or any other; None is the first of the config. Each step runs on the
    threads that its rule has, on which the last bits depend.

    Parameters
    ----------
    config
        As in config/config.yaml; what it leaves out has the workflow's defaults.
    sources
        Per slice and modality what holds it; None: the files of the sheet that the config names.

    Attributes
    ----------
    config : dict
        The configuration, complete.
    sheet : SampleSheet
        The design: slices and their modalities.

    Raises
    ------
    InputError
        That lists all faults of the configuration and of the sheet.
    """

    def __init__(self, config: Mapping, sources: Mapping[Key, Source] | None = None):
        schemas = [read_yaml(SCHEMAS / f"{name}.schema.yaml") for name in ("config", "slices")]
        rows = None if sources is None else SampleSheet(SampleRow(*key, f"slice {key[0]}, {key[1]}") for key in sources)
        self.config, self.sheet = load(config, *schemas, sheet=rows)
        self._given = config
        self._in_memory = sources is not None
        self._sources = {row[:2]: row.path for row in self.sheet} if sources is None else dict(sources)
        self._options = {row[:2]: dict(row.options) for row in self.sheet}
        self._made: dict[tuple, Any] = {}

    @classmethod
    def from_config(cls, config: str | Path | Mapping) -> "Pipeline":
        """The run that Snakemake makes of a config.

        Parameters
        ----------
        config
            Path of the YAML file, or what such a file holds. The sheet and the paths in it are relative to the working
            directory, as for Snakemake.
        """
        return cls(config if isinstance(config, Mapping) else read_yaml(config))

    @classmethod
    def from_slices(cls, slices: Mapping[Key, ad.AnnData], config: str | Path | Mapping) -> "Pipeline":
        """A run on slices in memory.

        Parameters
        ----------
        slices
            Per slice and modality an AnnData as its file would be: raw counts in ``layers["counts"]`` or X, barcodes in
            ``obs_names``, coordinates in ``obsm["spatial"]``. They stay as they are.
        config
            See ``from_config``; its ``slices`` is not used.

        Raises
        ------
        InputError
            If there are no slices, or a key is no pair of names.
        """
        hint = "map each pair of slice and modality to its AnnData: {('s1', 'rna'): adata}"
        if not slices:
            raise InputError("there are none", where="slices", hint=hint)
        for key in slices:
            if not (isinstance(key, tuple) and len(key) == 2 and all(isinstance(name, str) for name in key)):
                raise InputError(f"the key {key!r} is no pair of slice and modality", where="slices", hint=hint)
        return cls(config if isinstance(config, Mapping) else read_yaml(config), slices)

    def changed(self, changes: Mapping) -> "Pipeline":
        """The same slices with another config; steps that the change does not reach are not computed again.

        Parameters
        ----------
        changes
            Keys of the config to set, at any depth: ``{"graph": {"w_g": 0.4}}``.
        """
        other = Pipeline(with_changes(self._given, changes), self._sources if self._in_memory else None)
        other._made = dict(self._made)
        return other

    def slices(self) -> dict[Key, ad.AnnData]:
        """Slices as read: see ``read.read_slice``."""
        return {key: self._slice(*key) for key in self._sources}

    def annotations(self) -> pd.DataFrame:
        """The columns of ``obs`` that ``truth`` and ``keep_obs`` name, of all spots before QC."""
        named = self.config["truth"], self.config["keep_obs"]
        rows = [(*key, source, self._options[key]) for key, source in self._sources.items()]
        return self._once("annotate", named, lambda: annotate(rows, *named))

    def passed(self) -> dict[Key, Passed]:
        """Slices after quality control."""
        return {key: self._passed(*key) for key in self._sources}

    def counts(self) -> dict[str, ad.AnnData]:
        """Per modality its slices after quality control, stacked: see ``spots.stack`` for the features."""
        return {name: self._stacked(name) for name in self.sheet.modalities}

    def pairing(self) -> Comparison:
        """Barcodes and coordinates that the modalities of a slice share, features that the slices of a modality share.

        Raises
        ------
        InputError
            If they do not match.
        """

        def paired() -> Comparison:
            slices = {key: passed.adata for key, passed in self.passed().items()}
            found = compare(slices, {key: fingerprint(adata) for key, adata in slices.items()})
            report(found)
            return found

        return self._once("pair", [self._of_qc(name) for name in self.sheet.modalities], paired)

    def normalized(self, slice_name: str, modality: str) -> ad.AnnData:
        """One modality of one slice, normalised in X (computed at each call)."""
        return normalize_slice(self._passed(slice_name, modality).adata, self._modality(modality)["normalization"])

    def reduced(self) -> dict[str, ad.AnnData]:
        """Per modality the features of all slices: ``obsm["X_reduced"]`` and ``obsm["X_corrected"]``."""
        self.pairing()
        return {name: self._reduced(name) for name in self.sheet.modalities}

    def graphs(self) -> dict[str, ad.AnnData]:
        """Per modality its graph, as ``graph.build_graph`` returns it."""
        return {name: self._graph(name, adata) for name, adata in self.reduced().items()}

    def trained(self, seed: int | None = None) -> Trained:
        """Encoders and losses of one seed."""
        seed = self._seed(seed)

        def train() -> Trained:
            settings = dict(self.config["train"])
            threads = settings.pop("threads")
            graphs = self.graphs()
            with _threads(threads):
                return Trained(*fit(graphs, seed=seed, encoder=self.config["encoder"], **settings))

        return self._once(f"train {seed}", self._of_training(), train)

    def embedding(self, seed: int | None = None) -> md.MuData:
        """The latent space of one seed, as ``model.embed`` returns it."""
        seed = self._seed(seed)

        def embedded() -> md.MuData:
            return embed(self.graphs(), self.trained(seed).encoders)

        return self._once(f"embed {seed}", self._of_training(), embedded)

    def domains(self, seed: int | None = None) -> pd.DataFrame:
        """Domains of one seed: per spot ``slice``, ``domain`` and, if the method has it, ``probability``."""
        return self._clustered(seed).table

    def n_domains_curve(self, seed: int | None = None) -> pd.DataFrame | None:
        """The curve that chose the number of domains; None unless ``cluster.n_domains`` is ``auto``."""
        return self._clustered(seed).curve

    def n_domains_tree(self, seed: int | None = None) -> pd.DataFrame | None:
        """How domains split as their number grows; None unless ``cluster.n_domains`` is ``auto``."""
        return self._clustered(seed).tree

    def aligned(self, seed: int | None = None) -> md.MuData:
        """The latent space of one seed aligned by its domains: see ``alignment.aligned_embedding``."""
        seed = self._seed(seed)

        def align() -> md.MuData:
            return aligned_embedding(self.embedding(seed), self._clustered(seed).weights)

        return self._once(f"align {seed}", self._of_clustering(), align)

    def umap(self, seed: int | None = None) -> pd.DataFrame:
        """UMAP of the aligned latent space of one seed (spots x 2)."""
        seed = self._seed(seed)

        def placed() -> pd.DataFrame:
            embedding = self.aligned(seed)
            layout = umap_coordinates(embedding.obsm[LATENT], seed=seed)
            return pd.DataFrame(layout, index=embedding.obs_names, columns=["UMAP1", "UMAP2"])

        return self._once(f"project {seed}", self._of_clustering(), placed)

    def imputed(self, slice_name: str, modality: str, seed: int | None = None) -> ad.AnnData:
        """Counts of a modality that a slice lacks; ``sheet.missing`` lists them.

        Returns
        -------
        See ``impute.impute_modality``.

        Raises
        ------
        InputError
            If the slice has the modality, unless its ``features`` are ``union``, or the run has no such slice or
            modality.
        """
        seed = self._seed(seed)
        own = self.config["modalities"].get(modality, {})
        panels = own.get("features") == "union" and slice_name in self.sheet.slices
        if (slice_name, modality) not in self.sheet.missing and not panels:
            missing = ", ".join(f"{modality} in {name}" for name, modality in self.sheet.missing)
            problem = f"{modality} in slice {slice_name} is nothing to impute"
            raise InputError(problem, where="imputed", hint=f"what the slices lack: {missing or 'nothing'}")

        def impute() -> ad.AnnData:
            settings = self.config["impute"]
            rows = self.sheet.imputed_from(slice_name, modality, settings["method"])
            by_modality: dict[str, list[ad.AnnData]] = {}
            for key in dict.fromkeys(rows):
                by_modality.setdefault(key[1], []).append(self._passed(*key).adata)
            counts = {name: stack(own, name, self._modality(name)["features"]) for name, own in by_modality.items()}
            return impute_modality(self.embedding(seed), slice_name, modality, counts, **settings)

        return self._once(
            f"impute {slice_name} {modality} {seed}", [self._of_training(), self.config["impute"]], impute
        )

    def reference(self, seed: int | None = None, *, counts: bool = True) -> Reference:
        """What later runs map new slices onto, of one seed; it has no held-out scores.

        Parameters
        ----------
        seed
            As of other steps.
        counts
            Whether it has the counts of the donors of imputation.

        Raises
        ------
        InputError
            If the slices measured different features.
        """
        seed = self._seed(seed)

        def made() -> Reference:
            embedding, modalities = self.embedding(seed), self.config["modalities"]
            for name, adata in self.reduced().items():
                mappable(adata, name, modalities[name])
            spots = reference_spots(
                embedding,
                self.graphs(),
                self.domains(seed),
                self.umap(seed),
                None,
                views=CLUSTERERS[self.config["cluster"]["method"]].views,
            )
            own = {name: self.sheet.modalities_of(name) for name in self.sheet.slices}
            donors: dict[str, list[ad.AnnData]] = {}
            for key in donors_of(own, self.config["impute"]["method"]) if counts else ():
                donors.setdefault(key[1], []).append(self._passed(*key).adata)
            return Reference(
                self.config,
                seed,
                own,
                self.trained(seed).encoders,
                {name: reference_features(adata, embedding, name) for name, adata in self.reduced().items()},
                spots,
                {name: donor_counts(slices, name) for name, slices in donors.items()},
            )

        return self._once(f"reference {seed} {counts}", [self._of_clustering(), self.config["impute"]], made)

    def truth(self) -> pd.Series | None:
        """The true domain of each spot of the embedding, missing where unknown; None unless the config names them."""
        column = self.config["truth"]
        if column is None:
            return None
        spots = union({name: adata.obs for name, adata in self.reduced().items()}).index
        return self.annotations()[column].astype(object).reindex(spots)

    def metrics(self, seed: int | None = None) -> pd.DataFrame:
        """Scores of one seed, against the truth if the config names it: see ``metrics.evaluate``."""
        seed = self._seed(seed)

        def scored() -> pd.DataFrame:
            domains = self.domains(seed)["domain"].to_numpy()
            return evaluate(self.embedding(seed), domains, self.truth(), self.aligned(seed), seed=seed)

        sections = [self._of_clustering(), self.config["truth"]]
        return self._once(f"evaluate {seed}", sections, scored)

    def _once(self, step: str, settings: Any, make: Callable[[], Any]) -> Any:
        """The result of a step with these settings, made unless it is there."""
        key = (step, json.dumps(settings, sort_keys=True))
        if key not in self._made:
            with _threads(1):
                self._made[key] = make()
        return self._made[key]

    def _seed(self, seed: int | None) -> int:
        return self.config["seeds"][0] if seed is None else seed

    def _modality(self, name: str) -> dict:
        return self.config["modalities"][name]

    # What the steps depend on.
    def _of_reading(self, modality: str) -> list:
        counting = {key: self._modality(modality).get(key) for key in COUNTING}
        return [self._modality(modality)["kind"], self.config["truth"], self.config["keep_obs"], counting]

    def _of_qc(self, modality: str) -> list:
        return [self._of_reading(modality), self.config["qc"][modality]]

    def _of_reduction(self, modality: str) -> list:
        return [self._of_qc(modality), self._modality(modality)]

    def _of_training(self) -> list:
        modalities = [self._of_reduction(name) for name in self.sheet.modalities]
        return [modalities, self.config["graph"], self.config["encoder"], self.config["train"]]

    def _of_clustering(self) -> list:
        return [self._of_training(), self.config["cluster"]]

    def _slice(self, name: str, modality: str) -> ad.AnnData:
        kind, truth, keep_obs, _ = settings = self._of_reading(modality)
        source, options = self._sources[name, modality], self._options[name, modality]

        def read() -> ad.AnnData:
            named = {"truth": truth, "keep_obs": keep_obs}
            return read_slice(source, name, kind, modality=modality, options=options, **named)

        return self._once(f"read {name} {modality}", settings, read)

    def _renamed(self, modality: str) -> pd.DataFrame | None:
        """New names of a modality's features; None for one slice, and for kinds that have no names of genes."""
        names = self.sheet.slices_of(modality)
        kind = self._modality(modality)["kind"]
        if len(names) == 1 or kind not in NAMED:
            return None

        def matched() -> pd.DataFrame:
            tables = {}
            for name in names:
                source, options = self._sources[name, modality], self._options[name, modality]
                tables[name] = read_features(source, name, kind, modality=modality, options=options)
            return match_features(tables, modality).renamed

        return self._once(f"match {modality}", [], matched)

    def _passed(self, name: str, modality: str) -> Passed:
        def check() -> Passed:
            adata, renamed = self._slice(name, modality), self._renamed(modality)
            if renamed is not None:
                adata = with_names(adata, renamed)
            return Passed(*filter_slice(adata, **self.config["qc"][modality]))

        return self._once(f"qc {name} {modality}", self._of_qc(modality), check)

    def _passed_of(self, modality: str) -> list[ad.AnnData]:
        return [self._passed(name, modality).adata for name in self.sheet.slices_of(modality)]

    def _stacked(self, modality: str) -> ad.AnnData:
        return self._once(
            f"stack {modality}",
            [self._of_qc(modality), self._modality(modality)["features"]],
            lambda: stack(self._passed_of(modality), modality, self._modality(modality)["features"]),
        )

    def _reduced(self, modality: str) -> ad.AnnData:
        def reduce() -> ad.AnnData:
            settings = {key: value for key, value in self._modality(modality).items() if key not in COUNTING}
            return features_of(self._passed_of(modality), modality, **settings)

        return self._once(f"reduce {modality}", self._of_reduction(modality), reduce)

    def _graph(self, modality: str, reduced: ad.AnnData) -> ad.AnnData:
        settings = self.config["graph"]

        def build() -> ad.AnnData:
            return build_graph(reduced, reduced.obsm["X_corrected"], self.sheet.mnn_pairs(modality), **settings)

        return self._once(f"graph {modality}", [self._of_reduction(modality), settings], build)

    def _clustered(self, seed: int | None) -> Domains:
        seed = self._seed(seed)

        def cluster() -> Domains:
            return domains_of(self.embedding(seed), self.graphs(), self.config["cluster"], seed)

        return self._once(f"cluster {seed}", self._of_clustering(), cluster)


def features_of(slices: Iterable[ad.AnnData], modality: str, *, normalization: str, **settings: Any) -> ad.AnnData:
    """Normalise the slices of a modality and reduce them to features.

    Parameters
    ----------
    slices
        Counts of each slice that has the modality (spots x features), as ``Passed`` has them.
    modality
        Its name, for messages.
    normalization
        See ``normalize.normalize_slice``.
    settings
        See ``reduce.reduce_modality``, which says what is returned.
    """
    return reduce_modality((normalize_slice(adata, normalization) for adata in slices), modality, **settings)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Run numeric libraries on so many threads, as a job of the workflow does."""
    before, of_torch = os.environ.get("OMP_NUM_THREADS"), torch.get_num_threads()
    os.environ["OMP_NUM_THREADS"] = str(number)  # what mosaic.threads.n_threads reads
    torch.set_num_threads(number)
    try:
        with threadpool_limits(number):
            yield
    finally:
        torch.set_num_threads(of_torch)
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
