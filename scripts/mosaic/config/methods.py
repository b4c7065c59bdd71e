"""Registry of the baseline methods, and the designs that each supports.

Each has a script, ``scripts/embed_{script}.py``, and an environment, ``envs/{env}.yaml``; docs/adding_a_baseline.md has
the contract. Unsupported designs were found by testing the versions that the environments pin.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mosaic.config.design import SampleSheet


class Baseline(NamedTuple):
    """A third-party integration method.

    Attributes
    ----------
    label
        Its name in figures.
    citation
        Its publication.
    script, env
        Names of its script and of its environment.
    slices
        Which files of each slice it reads: ``qc`` (counts), ``normalized``, or None.
    reduced
        Whether it reads ``<results>/reduced``.
    settings
        Sections of the config that it uses, beside the modalities.
    """

    label: str
    citation: str
    script: str
    env: str
    slices: str | None = "qc"
    reduced: bool = True
    settings: tuple[str, ...] = ()

    @property
    def separate(self) -> bool:
        """Whether it needs another environment than the one that runs Snakemake."""
        return self.env not in WITH_SNAKEMAKE


# Environments whose packages are all in requirements.lock.
WITH_SNAKEMAKE = {"analyse"}

BASELINES = {
    "spamosaic-published": Baseline(
        "SpaMosaic 1.0.3",
        "Yan et al., Nature Genetics 2026, doi:10.1038/s41588-026-02573-3",
        script="published",
        env="published",
        reduced=False,
        settings=("graph", "train"),
    ),
    "mofa": Baseline(
        "MOFA+",
        "Argelaguet et al., Genome Biology 2020, doi:10.1186/s13059-020-02015-1",
        script="mofa",
        env="mofa",
        slices="normalized",
    ),
    "totalvi": Baseline(
        "totalVI",
        "Gayoso et al., Nature Methods 2021, doi:10.1038/s41592-020-01050-x",
        script="totalvi",
        env="scvi",
    ),
    "multivi": Baseline(
        "MultiVI",
        "Ashuach et al., Nature Methods 2023, doi:10.1038/s41592-023-01909-9",
        script="multivi",
        env="scvi",
    ),
    "scmomat": Baseline(
        "scMoMaT",
        "Zhang et al., Nature Communications 2023, doi:10.1038/s41467-023-36066-2",
        script="scmomat",
        env="scmomat",
    ),
    "midas": Baseline(
        "MIDAS",
        "He et al., Nature Biotechnology 2024, doi:10.1038/s41587-023-02040-y",
        script="midas",
        env="midas",
    ),
    "cellcharter": Baseline(
        "CellCharter",
        "Varrone et al., Nature Genetics 2024, doi:10.1038/s41588-023-01588-4",
        script="cellcharter",
        env="cellcharter",
    ),
    "harmony": Baseline(
        "Harmony",
        "Korsunsky et al., Nature Methods 2019, doi:10.1038/s41592-019-0619-0",
        script="harmony",
        env="analyse",
        slices=None,
    ),
}


def label(method: str) -> str:
    """Name of a method in figures."""
    return BASELINES[method].label if method in BASELINES else "this workflow"


def unsupported_reason(method: str, sheet: "SampleSheet", kinds: Mapping[str, str]) -> str | None:
    """The reason, in one sentence, why a method does not support a design; None if it does.

    Parameters
    ----------
    method
        Its name in the config.
    sheet
        The design.
    kinds
        Per modality ``rna``, ``protein``, ``epigenome`` or ``features``.
    """
    return _LIMITS[method](sheet, kinds) if method in _LIMITS else None


def shared(sheet: "SampleSheet") -> list[str]:
    """Modalities that every slice has."""
    return [name for name in sheet.modalities if sheet.slices_of(name) == sheet.slices]


def _of_kind(sheet: "SampleSheet", kinds: Mapping[str, str], kind: str) -> list[str]:
    return [name for name in sheet.modalities if kinds[name] == kind]


def _counted(sheet: "SampleSheet", kinds: Mapping[str, str]) -> str | None:
    ready = _of_kind(sheet, kinds, "features")
    return f"it models counts, and {' and '.join(ready)} of kind features has none" if ready else None


def _totalvi(sheet: "SampleSheet", kinds: Mapping[str, str]) -> str | None:
    if sorted(kinds[name] for name in sheet.modalities) != ["protein", "rna"]:
        return "it models one modality of kind rna and one of kind protein, and no other"
    rna = _of_kind(sheet, kinds, "rna")[0]
    without = [name for name in sheet.slices if name not in sheet.slices_of(rna)]
    return f"it needs {rna} in every slice, and {', '.join(without)} did not measure it" if without else None


def _multivi(sheet: "SampleSheet", kinds: Mapping[str, str]) -> str | None:
    if sorted(kinds[name] for name in sheet.modalities) != ["epigenome", "rna"]:
        return "it models one modality of kind rna and one of kind epigenome, and no other"
    return None


def _cellcharter(sheet: "SampleSheet", kinds: Mapping[str, str]) -> str | None:
    rna = _of_kind(sheet, kinds, "rna")
    return None if rna and rna[0] in shared(sheet) else "it needs RNA, and the same in every slice"


def _harmony(sheet: "SampleSheet", kinds: Mapping[str, str]) -> str | None:
    return None if shared(sheet) else "it integrates one modality, and none was measured by every slice"


_LIMITS: dict[str, Callable[["SampleSheet", Mapping[str, str]], str | None]] = {
    "totalvi": _totalvi,
    "multivi": _multivi,
    "scmomat": _counted,
    "midas": _counted,
    "cellcharter": _cellcharter,
    "harmony": _harmony,
}
