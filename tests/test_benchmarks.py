"""The measurements that the documentation quotes still run; their results are in docs/."""

import sys

import numpy as np
import pandas as pd
import reliability
import speed


def test_speed_measures_every_stage(tmp_path):
    found = speed.measure(sys.executable, "ours", 400, 2)
    assert set(found["stages"]) == set(speed.STAGES)
    assert all(wall > 0 for wall, _ in found["stages"].values())
    assert found["peak_mib"] > found["base_mib"] > 0
    assert found["fault"] == ""


def test_speed_shows_who_ran_out_of_memory(tmp_path):
    rows = []
    for implementation, factor in (("published", 10), ("ours", 1)):
        for spots in (1000, 2000, 4000):
            lost = implementation == "published" and spots == 4000
            for stage in ("spatial graph", "training epoch"):
                wall = np.nan if lost and stage == "training epoch" else factor * spots / 1000
                rows.append(
                    (implementation, spots, 0, 400, 400 + spots * factor, "out of memory" * lost, stage, wall, wall)
                )
    columns = ["implementation", "spots", "repeat", "base_mib", "peak_mib", "fault", "stage", "wall_s", "cpu_s"]
    table = pd.DataFrame(rows, columns=columns)
    text = speed.summary(table)
    assert "| training epoch | 2,000 | 20 s | 2 s | 10 |" in text
    assert "| training epoch | 4,000 | out of memory | 4 s | – |" in text
    assert "| memory over imports and data | 4,000 | out of memory | 4e+03 MiB | – |" in text
    assert "- training epoch: 1.00" in text
    speed.draw(table, tmp_path / "speed.svg")
    assert (tmp_path / "speed.svg").stat().st_size > 1000


def test_reliability_counts_who_is_right():
    names = [f"s1:{number}" for number in range(8)]
    table = pd.DataFrame(
        {
            "domain": [1, 1, 1, 0, 0, 0, 0, 0],
            "probability": 0.95,
            "agreement": [0.5] * 4 + [np.nan] * 4,
            "confidence": [0.4] * 4 + [0.95] * 4,
        },
        index=names,
    )
    truth = pd.Series(["a", "a", "b", "b", "b", "b", "b", None], index=names)
    found = reliability.reliability(table, truth).set_index(["spots", "by", "up_to"])
    assert found.loc[("checked", "probability", 1.0)].tolist() == [0.75, 4]
    assert found.loc[("checked", "confidence", 0.5)].tolist() == [0.75, 4]
    assert found.loc[("all", "confidence", 1.0)].tolist() == [1, 3]
    assert found.loc[("all", "confidence", 0.9), "n_spots"] == 0
