"""Which designs each baseline can integrate, and that the table, the schema and the files agree."""

from pathlib import Path

import pytest
import yaml

from mosaic.config import methods
from mosaic.config.design import SampleRow, SampleSheet

REPOSITORY = Path(__file__).parents[3]
KINDS = {"rna": "rna", "adt": "protein", "atac": "epigenome", "ready": "features", "rna2": "rna"}


def sheet(**slices):
    return SampleSheet(
        SampleRow(name, modality, f"{name}.{modality}.h5ad") for name, own in slices.items() for modality in own
    )


MOSAIC = sheet(s1=["rna", "adt"], s2=["rna"], s3=["adt"])
RNA_ATAC = sheet(s1=["rna", "atac"], s2=["rna"], s3=["atac"])
RNA_EVERYWHERE = sheet(s1=["rna", "adt"], s2=["rna"])
ONE_MODALITY = sheet(s1=["rna"], s2=["rna"])
READY = sheet(s1=["rna", "ready"], s2=["ready"])
THREE = sheet(s1=["rna", "adt", "atac"], s2=["rna"])
# Per method the designs that it can integrate; of the others, what the reason names.
CAN = {
    "spamosaic-published": ([MOSAIC, RNA_ATAC, RNA_EVERYWHERE, ONE_MODALITY, READY, THREE], {}),
    "mofa": ([MOSAIC, RNA_ATAC, RNA_EVERYWHERE, ONE_MODALITY, READY, THREE], {}),
    "totalvi": ([RNA_EVERYWHERE], {"s3 did not measure": MOSAIC, "kind protein": RNA_ATAC, "no other": THREE}),
    "multivi": ([RNA_ATAC], {"epigenome": MOSAIC, "no other": THREE, "one of kind epigenome": ONE_MODALITY}),
    "scmomat": ([MOSAIC, RNA_ATAC, RNA_EVERYWHERE, ONE_MODALITY, THREE], {"ready of kind features": READY}),
    "midas": ([MOSAIC, RNA_ATAC, RNA_EVERYWHERE, ONE_MODALITY, THREE], {"ready of kind features": READY}),
    "cellcharter": ([RNA_EVERYWHERE, ONE_MODALITY, THREE], {"RNA": MOSAIC, "every slice": RNA_ATAC}),
    "harmony": ([RNA_EVERYWHERE, ONE_MODALITY, READY, THREE], {"every slice": MOSAIC}),
}


@pytest.mark.parametrize("method", methods.BASELINES)
def test_designs(method):
    able, unable = CAN[method]
    for design in able:
        assert methods.unsupported_reason(method, design, KINDS) is None
    for words, design in unable.items():
        reason = methods.unsupported_reason(method, design, KINDS)
        assert words in reason
        assert "\n" not in reason


def test_two_modalities_of_a_kind_are_not_one():
    design = sheet(s1=["rna", "rna2", "adt"])
    assert "no other" in methods.unsupported_reason("totalvi", design, KINDS)


def test_own_method_can_do_all():
    assert methods.unsupported_reason("spamosaic", ONE_MODALITY, KINDS) is None


def test_schema_names_the_methods_of_the_table():
    properties = yaml.safe_load((REPOSITORY / "workflow/schemas/config.schema.yaml").read_text())["properties"]
    assert properties["methods"]["items"]["enum"] == ["spamosaic", *methods.BASELINES]
    assert properties["interpreters"]["propertyNames"]["enum"] == ["spatialdata"] + [
        name for name, baseline in methods.BASELINES.items() if baseline.separate
    ] + [name for name, baseline in methods.BASELINES.items() if not baseline.separate]


def test_every_baseline_has_its_files():
    for baseline in methods.BASELINES.values():
        assert (REPOSITORY / "scripts" / f"embed_{baseline.script}.py").is_file()
        assert (REPOSITORY / "envs" / f"{baseline.env}.yaml").is_file()
        assert "doi:" in baseline.citation
