"""A reference in memory: made of a run, written and read, and new slices mapped onto it.

    from mosaic.pipeline import Pipeline
    from mosaic.reference import Reference

    Pipeline.from_config("config/config.yaml").reference().save("atlas")
    mapped = Reference.load("atlas").map({("s9", "rna"): adata})
    mapped.domains.table  # each spot's domain, as in domains.tsv of a run with ``reference: atlas``
    mapped.imputed("s9", "adt")

The rules of a mapping run have the same results, file by file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anndata as ad
import mudata as md
import pandas as pd

from mosaic import store
from mosaic.analyse.impute import impute_modality
from mosaic.analyse.mapped_domains import MappedDomains, map_domains
from mosaic.analyse.reference_files import counts_to_impute, linked_embedding, write_reference
from mosaic.config.settings import with_new_slices
from mosaic.errors import InputError
from mosaic.integrate.encoders import Encoder
from mosaic.integrate.fine_tuning import fine_tune as run_fine_tuning
from mosaic.integrate.fine_tuning import tuning_settings
from mosaic.integrate.graph import link_to_reference
from mosaic.integrate.model import embed_new, load_model, save_model
from mosaic.manifest import checked, read_manifest, reading, writing
from mosaic.prepare.feature_names import NAMED, features_of_reference, match_features, with_names
from mosaic.prepare.mapping import map_modality
from mosaic.prepare.normalize import normalize_slice
from mosaic.prepare.qc import filter_slice
from mosaic.prepare.read import Source, read_features, read_slice

Key = tuple[str, str]  # slice and modality

# Settings of a modality that `normalize` and the readers take; the others are those of `reduce`.
_NOT_REDUCTION = ("normalization", "peaks", "bin_size")
_MODEL = "model.safetensors"


def reduction_settings(modality: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of ``reduce.ReductionSettings`` among those of a modality in the config."""
    return {key: value for key, value in modality.items() if key not in _NOT_REDUCTION}


def read_part(folder: str | Path, name: str) -> ad.AnnData:
    """Read ``features.{modality}``, ``counts.{modality}`` or ``spots`` of a reference."""
    return store.read(checked(folder, f"{name}.h5ad"))


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
        Per modality, see ``mapped_domains.reference_features`` and ``reference_files.donor_counts``; counts may be
        none.
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
        settings = {**self.config["train"], "seed": self.seed}
        told = {"domains": {}, "checks": [], "versions": {}} | self.told
        known = {"seed": self.seed, "config": self.config, "slices": self.slices}
        with writing(path) as folder:
            save_model(self.encoders, settings, {}, folder / _MODEL)
            write_reference(folder, self.features, self.spots, self.counts, told | known)

    @classmethod
    def load(cls, path: str | Path) -> "Reference":
        """Read a reference from its folder or zip.

        Raises
        ------
        InputError
            If it is damaged, cut short, of a newer format, or no reference.
        """
        with reading(path) as folder:
            told = read_manifest(folder)
            names = list(told["config"]["modalities"])
            return cls(
                told["config"],
                told["seed"],
                told["slices"],
                load_model(checked(folder, _MODEL), {}, new=True),
                {name: read_part(folder, f"features.{name}") for name in names},
                read_part(folder, "spots"),
                {name: read_part(folder, f"counts.{name}") for name in told["counts"]},
                {key: told[key] for key in ("domains", "checks", "versions")},
            )

    def map(
        self,
        slices: Mapping[Key, Source],
        *,
        least_share: float = 0.5,
        fine_tune: bool = False,
        fine_tune_epochs: int = 50,
    ) -> Mapped:
        """Map new slices, without training unless ``fine_tune``.

        Parameters
        ----------
        slices
            Per slice and modality an AnnData with counts in ``layers["counts"]`` or X and coordinates in
            ``obsm["spatial"]``, or its file.
        least_share
            See ``mapping.map_modality``.
        fine_tune, fine_tune_epochs
            Whether slices with two or more modalities tune encoders of their own, and how long: see
            ``fine_tuning.fine_tune``.

        Raises
        ------
        InputError
            If a slice can't be mapped.
        """
        passed: dict[Key, ad.AnnData] = {}
        renamed: dict[str, list[pd.DataFrame]] = {}
        for (name, modality), source in slices.items():
            if modality not in self.features:
                hint = f"it has {', '.join(self.features)}"
                raise InputError(f"the reference has no {modality}", where=f"slice {name}", hint=hint)
            kind = self.config["modalities"][modality]["kind"]
            read = read_slice(source, name, kind, modality=modality)
            if kind in NAMED:
                table = read_features(source, name, kind, modality=modality)
                found = match_features({name: table}, modality, known=self._features_of(modality)).renamed
                renamed.setdefault(modality, []).append(found)
                read = with_names(read, found)
            passed[name, modality] = filter_slice(read, **self.config["qc"][modality])[0]
        features, graphs = {}, {}
        graph = with_new_slices(self.config["graph"], {name for name, _ in slices})
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
                renamed=pd.concat(renamed[modality]) if modality in renamed else None,
                **reduction_settings(settings),
            )
            graphs[modality] = link_to_reference(features[modality], self.features[modality], **graph)
        tuning = tuning_settings(fine_tune_epochs, self.config["train"])
        tuned = run_fine_tuning(graphs, self.encoders, **tuning) if fine_tune else {}
        embedding = embed_new(graphs, self.encoders, tuned)
        domains = map_domains(embedding, graphs, features, self.features, self.spots)
        return Mapped(self, passed, features, embedding, domains)

    def _features_of(self, modality: str) -> pd.DataFrame:
        """What its features are called: see ``feature_names.features_of_reference``."""
        parts = [own[modality].var for own in (self.counts, self.features) if modality in own]
        return features_of_reference(*parts)
