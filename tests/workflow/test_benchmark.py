"""The benchmark: its jobs, and the same table again from a second run."""

import subprocess
import sys

import pandas as pd
import pytest
import yaml
from running import REPOSITORY, jobs_per_rule
from snakemake.exceptions import WorkflowError

SNAKEFILE = REPOSITORY / "workflow" / "benchmark" / "Snakefile"
CONFIG = REPOSITORY / "config" / "benchmark.yaml"
TINY = {
    "data": None,
    "seeds": [0, 1],
    "methods": ["spamosaic", "harmony"],
    "interpreters": {},
    "datasets": {
        "tiny": {
            "simulate": {"grid": {"rows": 16, "columns": 15}},
            "slices": {"s1": ["rna", "adt"], "s2": ["rna"]},
            "hidden": {"s2": ["adt"]},
            "config": {
                "modalities": {"rna": {"kind": "rna"}, "adt": {"kind": "protein"}},
                "train": {"T": 0.1, "n_epochs": 10, "threads": 1},
                "cluster": {"n_domains": 5},
            },
        },
        "no_shared_modality": {
            "simulate": {},
            "slices": {"s1": ["rna", "adt"], "s2": ["rna"], "s3": ["adt"]},
            "config": {"modalities": {"rna": {"kind": "rna"}, "adt": {"kind": "protein"}}, "cluster": {"n_domains": 5}},
        },
    },
}


@pytest.fixture(autouse=True)
def _stay_here(monkeypatch):
    """Snakemake changes the working directory of this process."""
    monkeypatch.chdir(REPOSITORY)


def interpreters(folder) -> dict:
    """Pythons that a dry run finds, under the names of the config."""
    named = yaml.safe_load(CONFIG.read_text())["interpreters"]
    for path in named.values():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch(mode=0o755)
    return named


@pytest.mark.parametrize("data", [None, "published"])
def test_jobs_of_the_shipped_config(tmp_path, data):
    config = yaml.safe_load(CONFIG.read_text()) | {"data": data, "interpreters": interpreters(tmp_path)}
    (tmp_path / "benchmark.yaml").write_text(yaml.safe_dump(config))
    jobs = jobs_per_rule(tmp_path, tmp_path / "benchmark.yaml", snakefile=SNAKEFILE)
    n_sets = sum("simulate" in own or data is not None for own in config["datasets"].values())
    assert sum(count for rule, count in jobs.items() if rule.startswith("make_")) == n_sets
    assert sum(count for rule, count in jobs.items() if rule.endswith("_train")) == n_sets * len(config["seeds"])
    baselines = sum(count for rule, count in jobs.items() if rule.endswith("_embed_baseline"))
    assert jobs["score"] == n_sets * len(config["seeds"]) + baselines
    # Only where RNA is everywhere can totalVI, CellCharter and Harmony do it.
    assert jobs["rna_everywhere_embed_baseline"] == 5 * len(config["seeds"])
    assert jobs["demo_embed_baseline"] == 2 * len(config["seeds"])
    # Nothing of a single run that the table does not need.
    assert not any(rule.endswith(("_export", "_plot_domains", "_simulate_demo")) for rule in jobs)


def test_the_command_line_changes_single_keys(tmp_path):
    (tmp_path / "benchmark.yaml").write_text(yaml.safe_dump(TINY))
    given = ["seeds=[5,6,7]", "methods=[spamosaic]"]
    jobs = jobs_per_rule(tmp_path, tmp_path / "benchmark.yaml", given=given, snakefile=SNAKEFILE)
    assert jobs["tiny_train"] == 3
    assert jobs["tiny_embed_baseline"] == 0


def test_a_key_given_twice_is_told(tmp_path):
    (tmp_path / "benchmark.yaml").write_text(yaml.safe_dump(TINY) + "seeds: [3]\n")
    with pytest.raises(WorkflowError, match="key seeds: is there already"):
        jobs_per_rule(tmp_path, tmp_path / "benchmark.yaml", snakefile=SNAKEFILE)


def test_unknown_key_is_told(tmp_path):
    (tmp_path / "benchmark.yaml").write_text(yaml.safe_dump(TINY | {"dataset": {}}))
    command = [sys.executable, "-m", "snakemake", "-n", "-s", SNAKEFILE, "--configfile", tmp_path / "benchmark.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "lacks or does not know: dataset" in done.stdout + done.stderr


@pytest.mark.slow
def test_a_rerun_gives_the_same_table(tmp_path):
    config = TINY | {"datasets": {"tiny": TINY["datasets"]["tiny"]}}
    tables = []
    for cores in ("2", "1"):
        folder = tmp_path / cores
        folder.mkdir()
        (folder / "benchmark.yaml").write_text(yaml.safe_dump(config))
        command = [sys.executable, "-m", "snakemake", "--cores", cores, "-s", SNAKEFILE]
        command += ["--configfile", folder / "benchmark.yaml", "--config", "seeds=[0]"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        tables.append(pd.read_csv(folder / "results/benchmark/scores.tsv", sep="\t", dtype=str))
        for name in ("overview", "time"):
            assert (folder / f"results/benchmark/{name}.svg").stat().st_size > 2000
    cost = tables[0]["metric"].str.endswith((" (s)", " (MiB)"))
    assert cost.sum() == 3 * 2  # of each method
    kept = [table[~table["metric"].str.endswith((" (s)", " (MiB)"))] for table in tables]
    assert len(kept[0]) > 40
    pd.testing.assert_frame_equal(*(table.reset_index(drop=True) for table in kept))
    found = set(tables[0]["metric"])
    assert {
        "ARI",
        "NMI",
        "iLISI",
        "FOSCTTM (training pairs)",
        "imputation pearson_feature",
        "number of domains",
    } <= found
    own = tables[0].set_index(["method", "seed", "metric", "by", "scope"])["value"]
    assert (
        own["spamosaic", "0", "imputation pearson_feature", "matching", "s2:adt"]
        != own["harmony", "0", "imputation pearson_feature", "matching", "s2:adt"]
    )


def test_what_a_method_cannot_do_is_in_the_table(tmp_path):
    """Of a run that has its scores already, the summary alone."""
    (tmp_path / "benchmark.yaml").write_text(yaml.safe_dump(TINY))
    jobs = jobs_per_rule(tmp_path, tmp_path / "benchmark.yaml", snakefile=SNAKEFILE)
    assert jobs["tiny_embed_baseline"] == 2
    assert jobs["no_shared_modality_embed_baseline"] == 0
    assert jobs["score"] == 6


STUDY = REPOSITORY / "workflow" / "benchmark" / "study.smk"


@pytest.mark.parametrize("quick", [False, True])
def test_jobs_of_the_study(tmp_path, quick):
    config = yaml.safe_load(CONFIG.read_text()) | {"interpreters": {}}
    config |= yaml.safe_load((REPOSITORY / "config" / "study.yaml").read_text()) | {"quick": quick}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(config))
    jobs = jobs_per_rule(tmp_path, tmp_path / "study.yaml", snakefile=STUDY)
    variants = config["study"]["variants"]
    of_two_bridges = sum(own.get("bridges", 1) == 2 for own in variants.values())
    # Without published data: demo, all_domains_seen and real_size, which alone has two bridge slices.
    expected = len(variants) - of_two_bridges if quick else 3 * len(variants) - 2 * of_two_bridges
    assert jobs["study_variant"] == expected
    # From features on: no data set is trained by its own rules.
    assert not any(rule.endswith(("_train", "_build_graph")) for rule in jobs)


def test_an_unknown_key_of_a_variant_is_told(tmp_path):
    """It would do nothing, and the variant would be the default."""
    study = {"datasets": ["tiny"], "quick": [], "variants": {"spatial": {"group": "graph", "edge": "spatial"}}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(TINY | {"study": study, "quick": False}))
    with pytest.raises(WorkflowError, match="variant spatial of the study has an unknown key: edge"):
        jobs_per_rule(tmp_path, tmp_path / "study.yaml", snakefile=STUDY)


@pytest.mark.slow
def test_the_study_runs(tmp_path):
    config = TINY | {"methods": ["spamosaic"], "seeds": [0], "quick": False}
    variants = {
        "default": {"group": "default"},
        "mlp": {"group": "graph", "config": {"encoder": {"net": "mlp"}}},
        "piece_10": {"group": "anchors", "anchors": {"share": 0.1, "drawn": "piece"}},
        "last_bridge_alone": {"group": "anchors", "anchors": {"bridge": "last"}, "bridges": 2},
    }
    two_bridges = {"slices": {"s1": ["rna", "adt"], "s2": ["rna"], "s3": ["rna", "adt"]}}
    config["datasets"] = {"tiny": TINY["datasets"]["tiny"] | two_bridges}
    config["study"] = {"datasets": ["tiny"], "quick": [], "variants": variants}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "-s", STUDY, "--configfile", "study.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    table = pd.read_csv(tmp_path / "results/benchmark/study/scores.tsv", sep="\t")
    found = table.pivot(index="variant", columns="metric", values="value")
    assert set(found.index) == set(variants)
    assert found[["ARI", "iLISI", "FOSCTTM (seen pairs)", "imputed r", "CPU time (s)"]].notna().all(axis=None)
    fewer = found.index.isin(["piece_10", "last_bridge_alone"])
    assert found["FOSCTTM (unseen pairs)"].notna().tolist() == fewer.tolist()
    assert found.loc["piece_10", "anchors"] == round(0.1 * found.loc["default", "anchors"])
    assert found.loc["mlp", "ARI"] != found.loc["default", "ARI"]
