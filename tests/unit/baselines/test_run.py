"""What the baselines' scripts share: the command line, one joint latent space, spots that a method can't embed."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mosaic import embedding, spots, store
from mosaic.baselines.run import BaselineRun, batches, fill_from_neighbors, parse
from mosaic.errors import InputError

REPOSITORY = Path(__file__).parents[3]
MODALITIES = {"rna": {"kind": "rna"}, "adt": {"kind": "protein"}}
# A method that takes the first two counts of each spot for its latent space.
FAKE = """
from mosaic.baselines.run import baseline_run
with baseline_run(__doc__) as task:
    import os
    import pandas as pd
    from mosaic import embedding
    from mosaic import store
    from mosaic import spots
    print("threads", os.environ["OMP_NUM_THREADS"])
    graphs = {name: spots.stack(slices, name) for name, slices in task.slices().items()}
    rows = [pd.DataFrame(g.layers["counts"][:, :2].toarray(), g.obs_names) for g in graphs.values()]
    latent = pd.concat(rows)
    task.write_joint(graphs, latent[~latent.index.duplicated()])
"""


def slice_of(name, barcodes, seed=0):
    rng = np.random.default_rng(seed)
    obs = pd.DataFrame({"slice": pd.Categorical([name] * len(barcodes)), "barcode": list(barcodes)})
    obs.index = [f"{name}:{barcode}" for barcode in barcodes]
    places = np.array([[int(barcode[1:]), 0.0] for barcode in barcodes])
    counts = sparse.csr_matrix(rng.poisson(3, (len(barcodes), 4)).astype(np.float32))
    return ad.AnnData(
        obs=obs, var=pd.DataFrame(index=list("wxyz")), obsm={"spatial": places}, layers={"counts": counts}
    )


def graphs_of(rna, adt):
    names = {"rna": rna, "adt": adt}
    return {
        key: slice_of("s1", [f"B{number}" for number in own], seed) for seed, (key, own) in enumerate(names.items())
    }


def asked(folder, slices, **changed):
    options = {"settings": json.dumps({"modalities": MODALITIES, "device": "cpu"}), "seed": 3, "threads": 1}
    options |= {"log": folder / "log.txt", "output": folder / "embedding.h5mu"} | changed
    return ["--slices", *map(str, slices), *(str(w) for key, value in options.items() for w in (f"--{key}", value))]


def test_a_script_reads_and_writes(tmp_path):
    paths = []
    for modality, graph in graphs_of(range(40), range(1, 41)).items():
        paths.append(tmp_path / f"s1.{modality}.h5ad")
        store.write(graph, paths[-1])
    (tmp_path / "fake.py").write_text(FAKE)
    command = [sys.executable, tmp_path / "fake.py", *asked(tmp_path, paths, threads=2)]
    environment = {"PYTHONPATH": str(REPOSITORY / "scripts"), "PATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "threads 2" in (tmp_path / "log.txt").read_text()
    made = store.read(tmp_path / "embedding.h5mu")
    assert list(made.mod) == ["rna", "adt"]
    assert list(made.obs.columns) == ["slice", "barcode", "modalities"]
    assert made.n_obs == 41
    assert np.isfinite(made.obsm["spatial"]).all()
    both = made["rna"].obs_names.intersection(made["adt"].obs_names)
    assert np.array_equal(*(made[name][both].obsm[embedding.LATENT] for name in ("rna", "adt")))
    assert np.allclose(made[both].obsm[embedding.LATENT], made["rna"][both].obsm[embedding.LATENT])
    assert not list(tmp_path.glob(".*unfinished"))


def test_faults_are_told_and_end_the_script(tmp_path):
    (tmp_path / "s1.rna.h5ad").write_text("nothing")
    (tmp_path / "fake.py").write_text(FAKE)
    command = [sys.executable, tmp_path / "fake.py", *asked(tmp_path, [tmp_path / "s1.rna.h5ad"])]
    environment = {"PYTHONPATH": str(REPOSITORY / "scripts"), "PATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert "is damaged" in done.stderr
    assert "is damaged" in (tmp_path / "log.txt").read_text()


def test_command_line_needs_what_it_needs(capsys):
    with pytest.raises(SystemExit):
        parse(["--seed", "1"])
    assert "--settings" in capsys.readouterr().err


def index_of(**slices):
    """All spots of slices, each given as the numbers of its spots with RNA and of those with ADT."""
    parts = {
        (name, key): slice_of(name, [f"B{number}" for number in own]).obs
        for name, both in slices.items()
        for key, own in zip(("rna", "adt"), both, strict=True)
        if own
    }
    return spots.union({key: pd.concat(own for (_, k), own in parts.items() if k == key) for key in ("rna", "adt")})


def test_spots_with_the_same_modalities_are_a_batch():
    found, few = batches(index_of(s1=(range(60), range(40, 100)), s2=(range(30), [])))
    assert [(own[0], len(own)) for own in found] == [("s1:B0", 40), ("s1:B40", 20), ("s1:B60", 40), ("s2:B0", 30)]
    assert few == []


def test_few_spots_that_lack_a_modality_belong_to_the_largest_batch_of_their_slice():
    # s2: 2 spots without ADT, 5 without RNA, of 100; a twentieth is few.
    found, few = batches(index_of(s1=(range(30), range(30)), s2=(range(95), range(2, 100))))
    assert [own.tolist() for own, _ in few] == [["s2:B0", "s2:B1"], [f"s2:B{number}" for number in range(95, 100)]]
    assert [found[batch][0] for _, batch in few] == ["s2:B2", "s2:B2"]
    assert sum(map(len, found)) + sum(len(own) for own, _ in few) == 130


def test_a_group_beyond_a_twentieth_is_a_batch():
    found, few = batches(index_of(s1=(range(94), range(100))))
    assert [len(own) for own in found] == [94, 6]
    assert few == []


def test_a_spot_that_cannot_be_embedded_lies_amid_its_nearest(caplog):
    graphs = graphs_of(range(40), range(20, 41))
    latent = pd.DataFrame({"one": np.arange(40.0), "two": 1.0}, graphs["rna"].obs_names)
    with caplog.at_level(logging.WARNING):
        whole = fill_from_neighbors(graphs, latent)
    assert whole.loc["s1:B40", "one"] == np.mean([35, 36, 37, 38, 39])
    assert whole.loc[latent.index].equals(latent)
    assert "1 of 41 spots" in caplog.text


def test_too_many_spots_that_cannot_be_embedded_are_an_error():
    graphs = graphs_of(range(40), range(50))
    with pytest.raises(InputError, match="10 of 50 spots") as error:
        fill_from_neighbors(graphs, pd.DataFrame({"one": np.zeros(40)}, graphs["rna"].obs_names))
    assert "qc" in error.value.hint


def test_coordinates_that_are_not_finite_are_an_error(tmp_path):
    graphs = graphs_of(range(5), range(5))
    task = BaselineRun(parse(asked(tmp_path, [])))
    with pytest.raises(InputError, match="not finite"):
        task.write_joint(graphs, pd.DataFrame({"one": np.nan}, graphs["rna"].obs_names))
    assert not (tmp_path / "embedding.h5mu").exists()


def test_a_run_gives_counts_of_selected_features_and_writes_what_each_modality_has(tmp_path):
    """Slices in the order of the config, whatever the order of the files; each modality its own coordinates."""
    graphs = graphs_of(range(6), range(1, 7))
    paths, reduced = [], []
    for name, graph in reversed(graphs.items()):
        paths.append(tmp_path / f"s1.{name}.h5ad")
        store.write(graph, paths[-1])
    for name, features in (("rna", ["z", "w"]), ("adt", ["x"])):
        reduced.append(tmp_path / f"{name}.h5ad")
        store.write(graphs[name][:, features].copy(), reduced[-1])
    run = BaselineRun(parse([*asked(tmp_path, paths), "--reduced", *map(str, reduced)]))
    assert list(run.slices()) == ["rna", "adt"]
    assert not run.gpu
    assert run.of_kind("protein") == "adt"
    selected = run.selected()
    assert {name: own.var_names.tolist() for name, own in selected.items()} == {"rna": ["z", "w"], "adt": ["x"]}
    np.testing.assert_array_equal(
        selected["rna"].layers["counts"].toarray(), graphs["rna"].layers["counts"][:, [3, 0]].toarray()
    )
    run.write(selected, {"rna": np.zeros((6, 2)), "adt": np.ones((6, 2))})
    made = store.read(tmp_path / "embedding.h5mu")
    assert (made["adt"].obsm[embedding.LATENT] == 1).all()
    assert made[["s1:B3"]].obsm[embedding.LATENT].tolist() == [[0.5, 0.5]]
