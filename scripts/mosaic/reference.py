"""A reference in memory: made of a run, written and read, and new slices mapped onto it.

    from mosaic.pipeline import Pipeline
    from mosaic.reference import Reference

    Pipeline.from_config("config/config.yaml").reference().save("atlas")
    mapped = Reference.load("atlas").map({("s9", "rna"): adata})
    mapped.domains.table  # each spot's domain, as in domains.tsv of a run with ``reference: atlas``
    mapped.imputed("s9", "adt")

The rules of a mapping run have the same results, file by file.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anndata as ad
import mudata as md
import numpy as np

from mosaic import __version__, store
from mosaic.analyse.impute import impute_modality
from mosaic.analyse.intervals import unit_of
from mosaic.analyse.mapped_domains import MappedDomains, map_domains
from mosaic.embedding import LATENT, collect_embeddings
from mosaic.errors import InputError
from mosaic.integrate.encoders import Encoder
from mosaic.integrate.graph import link_to_reference
from mosaic.integrate.model import embed_new, load_model, save_model
from mosaic.manifest import MANIFEST, checked, read_manifest, unpack, write_manifest
from mosaic.manifest import pack as pack_folder
from mosaic.matrices import values_of
from mosaic.prepare.mapping import map_modality
from mosaic.prepare.normalize import normalize_slice
from mosaic.prepare.qc import filter_slice
from mosaic.prepare.read import Source, read_slice
from mosaic.spots import stack

Key = tuple[str, str]  # slice and modality

# Settings of a modality that `normalize` and the readers take; the others are those of `reduce`.
_NOT_REDUCTION = ("normalization", "peaks", "bin_size")
_MODEL, _SPOTS = "model.safetensors", "spots.h5ad"


def reduction_settings(modality: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of ``reduce.ReductionSettings`` among those of a modality in the config."""
    return {key: value for key, value in modality.items() if key not in _NOT_REDUCTION}


def donors_of(sheet: Mapping[str, Sequence[str]], method: str) -> list[Key]:
    """Slices and modalities whose counts a reference keeps, for imputation.

    Parameters
    ----------
    sheet
        Per slice its modalities.
    method
        Of ``impute.ImputationSettings``. ``matching`` has the spots with two modalities as donors; without a slice of
        two, and for ``nearest``, all spots are.
    """
    bridges = [name for name, own in sheet.items() if len(own) > 1]
    kept = bridges if method == "matching" and bridges else list(sheet)
    return [(name, modality) for name in kept for modality in sheet[name]]


def donor_counts(slices: Sequence[ad.AnnData], modality: str, scores: Any = None) -> ad.AnnData:
    """Counts of a modality's donors, and what is known of the errors of imputed counts.

    Parameters
    ----------
    slices
        Of the modality, after quality control.
    modality
        Its name.
    scores
        Held-out scores per feature (``folds.summarise``); None without held-out validation.

    Returns
    -------
    AnnData (spots x features) with ``layers["counts"]`` (kind ``features``: X); ``var`` as of imputed counts.
    """
    adata = stack(slices, modality)
    var = adata.var[["gene_id"] if "gene_id" in adata.var else []].assign(unit=unit_of(values_of(adata)))
    if scores is not None:
        var = var.join(scores)
        var["better_than_mean"] = var["better_than_mean"].eq(True)
    kept = {"layers": {"counts": adata.layers["counts"]}} if "counts" in adata.layers else {"X": adata.X}
    return ad.AnnData(obs=adata.obs[["slice", "barcode"]], var=var, **kept)


def write_reference(
    folder: str | Path,
    features: Mapping[str, ad.AnnData],
    spots: ad.AnnData,
    counts: Mapping[str, ad.AnnData],
    told: Mapping[str, Any],
) -> None:
    """Write all files of a reference but the model, which is there, and ``reference.json``.

    Parameters
    ----------
    folder
        Where ``model.safetensors`` lies.
    features, counts
        Per modality, see ``analyse.mapped_domains.reference_features`` and ``donor_counts``.
    spots
        See ``analyse.mapped_domains.reference_spots``.
    told
        ``seed``, ``config``, ``slices``, ``domains``, ``checks`` and ``versions`` for the manifest.
    """
    folder = Path(folder)
    for name, adata in features.items():
        store.write(adata, folder / f"features.{name}.h5ad")
    for name, adata in counts.items():
        store.write(adata, folder / f"counts.{name}.h5ad")
    store.write(spots, folder / _SPOTS)
    write_manifest(folder, {"version": __version__, **told, "counts": sorted(counts)})


def read_part(folder: str | Path, name: str) -> ad.AnnData:
    """Read ``features.{modality}``, ``counts.{modality}`` or ``spots`` of a reference."""
    return store.read(checked(folder, f"{name}.h5ad"))


def linked_embedding(embedding: md.MuData, features: Mapping[str, ad.AnnData], modalities: Sequence[str]) -> md.MuData:
    """The latent space of new spots and of the reference together, as ``impute.plan_modality`` reads it.

    Parameters
    ----------
    embedding
        Of new spots, as ``model.embed_new`` returns it.
    features
        Per modality, as ``reference_features`` returns it.
    modalities
        Those wanted.
    """
    graphs, latent = {}, {}
    for name in modalities:
        parts = [features[name], *([embedding[name]] if name in embedding.mod else [])]
        obsm = {key: np.vstack([np.asarray(part.obsm[key]) for part in parts]) for key in ("spatial", LATENT)}
        both = ad.concat([ad.AnnData(obs=part.obs[["slice", "barcode"]].astype(str)) for part in parts])
        graphs[name] = ad.AnnData(obs=both.obs, obsm={"spatial": obsm["spatial"]})
        latent[name] = obsm[LATENT]
    return collect_embeddings(graphs, latent)


def counts_to_impute(
    modality: str, sources: Sequence[str], donors: Mapping[str, ad.AnnData], own: Mapping[str, ad.AnnData]
) -> dict[str, ad.AnnData]:
    """Counts that an imputation in a new slice reads: of the modality, and of each source those of the slice, too.

    Parameters
    ----------
    modality
        What is imputed.
    sources
        Modalities of the slice.
    donors
        Per modality, as ``donor_counts`` returns it.
    own
        Per source the counts of the slice, after quality control.
    """
    counts = {modality: donors[modality]}
    for name in sources:
        if name in donors:
            slices = donors[name].obs["slice"]
            parts = [donors[name][(slices == each).to_numpy()].copy() for each in slices.cat.categories]
            counts[name] = stack([*parts, own[name]], name)
        else:
            counts[name] = own[name]
    return counts


@dataclass(frozen=True)
class Mapped:
    """New slices mapped onto a reference.

    Attributes
    ----------
    reference
        The reference.
    passed
        Per slice and modality what passed quality control.
    features
        Per modality the features, as ``mapping.map_modality`` returns them.
    embedding
        The latent space.
    domains
        Domains, and how far to believe them.
    """

    reference: "Reference"
    passed: dict[Key, ad.AnnData]
    features: dict[str, ad.AnnData]
    embedding: md.MuData
    domains: MappedDomains

    def imputed(self, slice_name: str, modality: str) -> ad.AnnData:
        """Counts of a modality that a slice lacks, from the reference's donors: see ``impute.impute_modality``.

        Raises
        ------
        InputError
            If the reference has no counts of the modality, or the slice has it.
        """
        ours = [own for name, own in self.passed if name == slice_name]
        known = self.reference.counts
        if modality not in known or modality in ours or not ours:
            problem = f"{modality} in slice {slice_name} can't be imputed"
            hint = f"the reference has counts of {', '.join(known) or 'nothing'}; the slice has {', '.join(ours)}"
            raise InputError(problem, where="imputed", hint=hint)
        own = {name: self.passed[slice_name, name] for name in ours}
        counts = counts_to_impute(modality, ours, known, own)
        embedding = linked_embedding(self.embedding, self.reference.features, [*ours, modality])
        settings = self.reference.config["impute"]
        found = impute_modality(embedding, slice_name, modality, counts, **settings)
        found.var = known[modality].var.loc[found.var_names]
        return found


@dataclass(frozen=True)
class Reference:
    """A trained run that new slices are mapped onto. Make it by ``Pipeline.reference`` or ``load``.

    Attributes
    ----------
    config
        The configuration of the run, complete.
    seed
        Of the run.
    slices
        Per slice of the run its modalities.
    encoders
        By modality.
    features, counts
        Per modality, see ``analyse.mapped_domains.reference_features`` and ``donor_counts``; counts may be none.
    spots
        See ``analyse.mapped_domains.reference_spots``.
    told
        What else ``reference.json`` has.
    """

    config: dict
    seed: int
    slices: dict[str, list[str]]
    encoders: dict[str, Encoder]
    features: dict[str, ad.AnnData]
    spots: ad.AnnData
    counts: dict[str, ad.AnnData]
    told: dict[str, Any] = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """Write the reference to a folder or, if the path ends with ``.zip``, to one file.

        Raises
        ------
        InputError
            If the folder is there and has other files.
        """
        path = Path(path)
        if path.suffix == ".zip":
            with tempfile.TemporaryDirectory() as folder:
                self.save(Path(folder) / path.stem)
                pack_folder(Path(folder) / path.stem, path)
            return
        if path.exists() and any(path.iterdir()):
            if MANIFEST not in os.listdir(path):
                problem = "is there, and is no reference"
                raise InputError(problem, where=str(path), hint="give a path that is not there, or an empty folder")
            shutil.rmtree(path)
        path.mkdir(parents=True, exist_ok=True)
        settings = {**self.config["train"], "seed": self.seed}
        save_model(self.encoders, settings, {}, path / _MODEL)
        told = {"domains": {}, "checks": [], "versions": {}} | self.told
        known = {"seed": self.seed, "config": self.config, "slices": self.slices}
        write_reference(path, self.features, self.spots, self.counts, told | known)

    @classmethod
    def load(cls, path: str | Path) -> "Reference":
        """Read a reference from its folder or zip.

        Raises
        ------
        InputError
            If it is damaged, cut short, of a newer format, or no reference.
        """
        path = Path(path)
        told = read_manifest(path)
        if path.is_file():
            with tempfile.TemporaryDirectory() as folder:
                unpack(path, folder)
                return cls.load(folder)
        names = list(told["config"]["modalities"])
        return cls(
            told["config"],
            told["seed"],
            told["slices"],
            load_model(checked(path, _MODEL), {}, new=True),
            {name: read_part(path, f"features.{name}") for name in names},
            read_part(path, "spots"),
            {name: read_part(path, f"counts.{name}") for name in told["counts"]},
            {key: told[key] for key in ("domains", "checks", "versions")},
        )

    def map(self, slices: Mapping[Key, Source], *, least_share: float = 0.5) -> Mapped:
        """Map new slices, without training.

        Parameters
        ----------
        slices
            Per slice and modality an AnnData with counts in ``layers["counts"]`` or X and coordinates in
            ``obsm["spatial"]``, or its file.
        least_share
            See ``mapping.map_modality``.

        Raises
        ------
        InputError
            If a slice can't be mapped.
        """
        passed: dict[Key, ad.AnnData] = {}
        for (name, modality), source in slices.items():
            if modality not in self.features:
                hint = f"it has {', '.join(self.features)}"
                raise InputError(f"the reference has no {modality}", where=f"slice {name}", hint=hint)
            kind = self.config["modalities"][modality]["kind"]
            read = read_slice(source, name, kind, modality=modality)
            passed[name, modality] = filter_slice(read, **self.config["qc"][modality])[0]
        features, graphs = {}, {}
        for modality in dict.fromkeys(own for _, own in passed):
            settings = self.config["modalities"][modality]
            normalized = [
                normalize_slice(adata, settings["normalization"])
                for (_, own), adata in passed.items()
                if own == modality
            ]
            features[modality] = map_modality(
                normalized,
                self.features[modality],
                modality,
                least_share=least_share,
                **reduction_settings(settings),
            )
            graphs[modality] = link_to_reference(features[modality], self.features[modality], **self.config["graph"])
        embedding = embed_new(graphs, self.encoders)
        domains = map_domains(embedding, graphs, features, self.features, self.spots)
        return Mapped(self, passed, features, embedding, domains)
