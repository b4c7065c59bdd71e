"""Time and memory of this implementation beside the published package, stage by stage, on the same inputs.

    .venv/bin/python benchmarks/speed.py OUT.tsv FIGURE.svg --published .venv-published/bin/python [--quick]

Two slices with two modalities of 50 features each, both bridges, on square grids; N is the spots of a slice. Also from
counts of 3,000 genes and 30 proteins to domains, and to the proteins of the second slice, which lacks them. Every
measurement is a process of its own on two threads, the implementations by turns. `make speed` builds what it needs.
What the machine can do at most is shown: products of matrices, exponentials, copies. Each run appends its ratios to
speed_history.tsv, so that a stage that became slower is seen.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np

STAGES = ("spatial graph", "mutual neighbours", "merging", "training epoch", "embedding", "clustering", "imputation")
# From counts, each implementation with its own preprocessing; not one of the stages, which begin with features.
WHOLE = "counts to domains and imputed counts"
WHOLE_SIZES = {"full": [1_300, 3_500, 20_000], "quick": [1_300]}
HISTORY = Path(__file__).with_name("speed_history.tsv")
SIZES = {
    "full": {
        "published": [3_500, 8_000, 20_000, 100_000, 200_000],
        "ours": [3_500, 8_000, 20_000, 100_000, 200_000, 250_000],
    },
    "quick": {"published": [3_500, 8_000, 20_000], "ours": [3_500, 8_000, 20_000]},
}
MOST_MEMORY = 20_000_000_000  # bytes a process may take
N_FEATURES, N_DOMAINS, T = 50, 8, 0.1
N_GENES, N_PROTEINS = 3_000, 30


def make_slices(n_spots: int) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Per modality two slices' features (spots x 50) and coordinates: bands of domains, a batch effect, noise."""
    slices = {}
    width = int(np.sqrt(n_spots))
    places = np.column_stack(np.divmod(np.arange(n_spots), width)).astype(float)
    domain = (places[:, 0] / (places[:, 0].max() + 1) * N_DOMAINS).astype(int)
    for number, modality in enumerate(("rna", "adt")):
        rng = np.random.default_rng(number)
        # Components of falling variance, as those of PCA are.
        scale = 3 / np.sqrt(1 + np.arange(N_FEATURES))
        centres = rng.normal(size=(N_DOMAINS, N_FEATURES)) * scale
        slices[modality] = [
            (
                (centres[domain] + (rng.normal(size=(n_spots, N_FEATURES)) + rng.normal() * 0.1) * scale).astype(
                    np.float32
                ),
                places,
            )
            for _ in range(2)
        ]
    return slices


def make_counts(n_spots: int) -> dict[str, list]:
    """Per modality the AnnData of its slices: RNA of s1 and s2, proteins of s1; bands of domains, Poisson counts."""
    import anndata as ad
    import pandas as pd
    from scipy import sparse

    width, rng = int(np.sqrt(n_spots)), np.random.default_rng(0)
    places = np.column_stack(np.divmod(np.arange(n_spots), width)).astype(float)
    domain = (places[:, 0] / (places[:, 0].max() + 1) * N_DOMAINS).astype(int)
    found = {}
    for modality, n_features, depth, slices in (
        ("rna", N_GENES, 1000, ("s1", "s2")),
        ("adt", N_PROTEINS, 2000, ("s1",)),
    ):
        rates = rng.gamma(0.5, size=n_features) * np.exp(rng.normal(0, 0.7, (N_DOMAINS, n_features)))
        rates *= depth / rates.sum(axis=1, keepdims=True)
        found[modality] = []
        for name in slices:
            batch = np.exp(rng.normal(0, 0.1, n_features))
            rows = np.array_split(np.arange(n_spots), -(-n_spots // 2000))
            counts = sparse.vstack(
                [sparse.csr_matrix(rng.poisson(rates[domain[own]] * batch), dtype="f4") for own in rows]
            )
            obs = pd.DataFrame({"slice": name}, index=[f"{name}-{spot}" for spot in range(n_spots)])
            var = pd.DataFrame(index=[f"{modality}{number}" for number in range(n_features)])
            made = ad.AnnData(counts.tocsr(), obs=obs, var=var, obsm={"spatial": places})
            made.layers["counts"] = made.X.copy()
            found[modality].append(made)
    return found


class Clock:
    """Wall and CPU seconds of each stage."""

    def __init__(self):
        self.rows = {}

    def __call__(self, stage: str, call, *arguments, per: int = 1, **named):
        """Time a call; ``per``: so many rounds are in it."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = call(*arguments, **named)
        self.rows[stage] = ((time.perf_counter() - wall) / per, (time.process_time() - cpu) / per)
        return result


def run_ours(slices: dict, clock: Clock, n_epochs: int) -> None:
    """Graph, training, embedding, domains, and 50 features imputed for the second slice from the first."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
    import anndata as ad
    import pandas as pd
    from scipy import sparse

    from mosaic import mnn
    from mosaic.analyse import domains, impute
    from mosaic.embedding import LATENT, collect_embeddings
    from mosaic.integrate import training
    from mosaic.integrate.encoders import Propagation, to_data
    from mosaic.integrate.graph import merge_edges
    from mosaic.integrate.model import embed
    from mosaic.spatial import spatial_neighbors

    spatial = spatial_neighbors
    n_spots = len(slices["rna"][0][0])
    barcodes = np.arange(n_spots).astype(str)
    names = np.repeat(["s1", "s2"], n_spots)
    obs = pd.DataFrame({"slice": pd.Categorical(names), "barcode": np.tile(barcodes, 2)})
    obs.index = [f"{name}:{barcode}" for name, barcode in zip(names, obs["barcode"], strict=True)]
    graphs = {}
    coordinates = np.vstack([part[1] for part in slices["rna"]])
    clock("spatial graph", lambda: [spatial(part[1], 10) for parts in slices.values() for part in parts])
    mutual = {}
    clock(
        "mutual neighbours",
        lambda: mutual.update({m: mnn.mutual_nearest_neighbors(p[0][0], p[1][0], 10) for m, p in slices.items()}),
    )
    for modality, parts in slices.items():
        one, other = mutual[modality].T + np.array([[0], [n_spots]])
        edges = sparse.csr_matrix((np.ones(len(one), np.float32), (one, other)), shape=(2 * n_spots,) * 2)
        within = sparse.block_diag([spatial(part[1], 10) for part in parts], format="csr")
        obsp = {"spatial_connectivities": within, "mutual_nearest_neighbors": sparse.csr_matrix(edges + edges.T)}
        features = np.vstack([part[0] for part in parts])
        graphs[modality] = ad.AnnData(features, obs=obs, obsm={"spatial": coordinates}, obsp=obsp)

    def merge() -> None:
        for g in graphs.values():
            g.obsp["connectivities"] = merge_edges(g.obsp["spatial_connectivities"], g.obsp["mutual_nearest_neighbors"])
            data = to_data(g)
            Propagation(2)(data.x, data.edge_index, data.edge_weight)

    clock("merging", merge)
    training.fit(graphs, seed=0, device="cpu", T=T, n_epochs=1)  # what torch loads at its first step
    encoders, _ = clock(
        "training epoch", training.fit, graphs, seed=0, device="cpu", T=T, n_epochs=n_epochs, per=n_epochs
    )
    embedding = clock("embedding", embed, graphs, encoders)
    clock("clustering", domains.cluster_domains, embedding.obsm[LATENT], n_domains=N_DOMAINS)
    counts = {"rna": graphs["rna"][:n_spots].copy(), "adt": graphs["adt"]}
    whole = collect_embeddings(
        counts,
        {"rna": embedding["rna"].obsm[LATENT][:n_spots], "adt": embedding["adt"].obsm[LATENT]},
    )
    measured = {key: ad.AnnData(adata.X, obs=adata.obs) for key, adata in counts.items()}
    clock("imputation", impute.impute_modality, whole, "s2", "rna", measured)


def whole_ours(counts: dict, clock: Clock) -> None:
    """Quality control, features, graph, training, domains by the tissue field, and imputation, with all defaults."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
    from mosaic.pipeline import Pipeline

    slices = {(adata.obs["slice"].iloc[0], modality): adata for modality, own in counts.items() for adata in own}
    for adata in slices.values():
        adata.obs = adata.obs[[]]
        del adata.layers["counts"]
    config = {
        "modalities": {"rna": {"kind": "rna"}, "adt": {"kind": "protein"}},
        "train": {"T": T, "device": "cpu", "threads": 2},
        "cluster": {"n_domains": N_DOMAINS},
        "truth": None,
    }

    def run() -> None:
        chain = Pipeline.from_slices(slices, config)
        chain.domains(0)
        chain.imputed("s2", "adt", 0)

    clock(WHOLE, run)


def whole_published(counts: dict, clock: Clock) -> None:
    """The same by the published package, with its preprocessing; domains by the mixture that it asks of R's mclust."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
    from sklearn.mixture import GaussianMixture

    from mosaic.baselines import published
    from mosaic.config.defaults import KIND_DEFAULTS, PUBLISHED_KINDS

    graph = {"intra_knns": 10, "inter_knn_base": 10, "inter_auto_knn": False, "rmv_outlier": False}
    graph |= {"smooth_input": False, "smooth_L": 1, "w_g": 0.8}

    def run() -> None:
        for modality, kind in (("rna", "rna"), ("adt", "protein")):
            published.preprocess(counts[modality], kind=kind, **KIND_DEFAULTS[kind] | PUBLISHED_KINDS[kind])
        data = published.by_slice(counts, ["s1", "s2"])
        model = published.model(data, ["s1", "s2"], graph, seed=0, device="cpu")
        model.train("wlgcn", lr=0.01, T=T, n_epochs=100)
        latent = np.vstack([adata.obsm["merged_emb"] for adata in model.infer_emb(data)])
        GaussianMixture(N_DOMAINS, covariance_type="tied", random_state=0).fit_predict(latent)
        for own in counts.values():
            for adata in own:
                adata.layers["counts"] = adata.layers["counts"].toarray()  # the package's way ended with SciPy 1.14
        model.impute(data)

    clock(WHOLE, run)


def machine() -> dict[str, float]:
    """What the machine can do on two threads: GEMM in GFLOP/s and exponentials in 10^9/s (float32), copies in GB/s."""
    import torch

    torch.set_num_threads(2)
    square, values = torch.rand(2048, 2048), torch.rand(2**20)
    source = torch.rand(2**26)
    target = torch.empty_like(source)

    def best(call, work: float, repeats: int = 5) -> float:
        seconds = []
        for _ in range(repeats):
            begun = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - begun)
        return work / min(seconds) / 1e9

    return {
        "gemm_gflops": best(lambda: torch.mm(square, square), 2 * 2048**3),
        "exp_g": best(lambda: torch.exp(values), values.numel(), 50),
        "copy_gb": best(lambda: target.copy_(source), 2 * source.nbytes),
    }


def run_published(slices: dict, clock: Clock, n_epochs: int) -> None:
    """The same stages through the published package's own class."""
    import anndata as ad
    import torch

    def scatter_add(values, index, dim=0, dim_size=None):
        return torch.zeros(dim_size, dtype=values.dtype).index_add(0, index, values)

    # The one use that the package makes of torch-scatter, which would have to be compiled.
    sys.modules["torch_scatter"] = types.SimpleNamespace(scatter_add=scatter_add)
    from spamosaic.framework import SpaMosaic

    stages = {
        "prepare_intra_graphs": "spatial graph",
        "prepare_inter_graphs": "mutual neighbours",
        "prepare_inputs": "merging",
    }
    for name, stage in stages.items():
        method = getattr(SpaMosaic, name)
        setattr(SpaMosaic, name, lambda self, data, method=method, stage=stage: clock(stage, method, self, data))
    data = {}
    for modality, parts in slices.items():
        data[modality] = []
        for number, (features, places) in enumerate(parts):
            adata = ad.AnnData(np.zeros((len(features), 1), np.float32), obsm={"X": features, "spatial": places})
            adata.obs_names = [f"s{number}-{spot}" for spot in range(len(features))]
            adata.obs["batch"] = f"s{number}"
            data[modality].append(adata)
    model = SpaMosaic(data, "X", intra_knns=10, inter_knn_base=10, seed=0, device="cpu")
    model.train("wlgcn", lr=0.01, T=T, n_epochs=1)
    clock("training epoch", model.train, "wlgcn", lr=0.01, T=T, n_epochs=n_epochs, per=n_epochs)
    clock("embedding", model.infer_emb, data)


def peak_mib() -> float:
    """The most memory that this program has held; getrusage would count that of the process it was forked from."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def child(implementation: str, n_spots: int, n_epochs: int, whole: bool) -> None:
    """One measurement, of the stages or of the whole; prints a line of JSON, also when memory runs out."""
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
    import torch

    torch.set_num_threads(2)
    clock, fault = Clock(), ""
    given = make_counts(n_spots) if whole else make_slices(n_spots)
    if implementation == "ours":
        sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
        # Imports count as base.
        from mosaic.integrate import training  # noqa: F401
        from mosaic.integrate.model import embed  # noqa: F401
    else:
        import anndata  # noqa: F401
        import scanpy  # noqa: F401
    base = peak_mib()
    try:
        if whole:
            {"ours": whole_ours, "published": whole_published}[implementation](given, clock)
        else:
            {"ours": run_ours, "published": run_published}[implementation](given, clock, n_epochs)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        fault = "out of memory"
    print("RESULT " + json.dumps({"stages": clock.rows, "base_mib": base, "peak_mib": peak_mib(), "fault": fault}))


def measure(python: str, implementation: str, n_spots: int, n_epochs: int, *, whole: bool = False) -> dict:
    """Run ``child`` in a process of its own."""
    arguments = ["--child", implementation, "--spots", str(n_spots), "--epochs", str(n_epochs)]
    arguments += ["--whole"] if whole else []
    environment = os.environ | {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run([python, __file__, *arguments], capture_output=True, text=True, env=environment, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if lines:
        return json.loads(lines[-1].removeprefix("RESULT "))
    if done.returncode in (-9, 137):  # the kernel's way of saying it
        return {"stages": {}, "base_mib": np.nan, "peak_mib": np.nan, "fault": "out of memory"}
    raise SystemExit(f"{implementation} with {n_spots} spots failed:\n{done.stderr[-3000:]}")


def table_of(sizes: dict, whole_sizes: list, pythons: dict, *, repeats: int):
    """All measurements as a tidy table."""
    import pandas as pd

    rows = []

    def add(implementation: str, n_spots: int, repeat: int, whole: bool) -> None:
        found = measure(pythons[implementation], implementation, n_spots, 5 if n_spots < 8_000 else 2, whole=whole)
        common = {"implementation": implementation, "spots": n_spots, "repeat": repeat}
        common |= {key: found[key] for key in ("base_mib", "peak_mib", "fault")}
        for stage, (wall, cpu) in found["stages"].items():
            rows.append(common | {"stage": stage, "wall_s": wall, "cpu_s": cpu})
        if found["fault"]:
            lost = WHOLE if whole else next(stage for stage in STAGES if stage not in found["stages"])
            rows.append(common | {"stage": lost, "wall_s": np.nan, "cpu_s": np.nan})
        shown = ", ".join(f"{stage} {wall:.2f}" for stage, (wall, _) in found["stages"].items())
        print(f"{implementation} {n_spots}: {shown} s; {found['peak_mib']:.0f} MiB {found['fault']}", flush=True)

    for n_spots in sorted({size for own in sizes.values() for size in own}):
        for repeat in range(repeats if n_spots < 100_000 else 1):
            for implementation, own in sizes.items():
                if n_spots in own:
                    add(implementation, n_spots, repeat, whole=False)
    for n_spots in whole_sizes:
        for implementation in sizes:
            add(implementation, n_spots, 0, whole=True)
    return pd.DataFrame(rows)


def ratios(table):
    """How many times less CPU time this implementation takes, per stage and size, where both were measured."""
    cpu = table.groupby(["stage", "spots", "implementation"])["cpu_s"].median().unstack("implementation")
    cpu = cpu.reindex(columns=["published", "ours"]).dropna()
    return (cpu["published"] / cpu["ours"]).rename("ratio").reset_index()


def record(table, limits: dict[str, float], path: Path) -> None:
    """Append the ratios of a run to the history, with the commit and what the machine could do."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        check=False,
    )
    found = ratios(table)
    found.insert(0, "commit", done.stdout.strip() or "unknown")
    for name, value in limits.items():
        found[name] = value
    found.to_csv(path, sep="\t", index=False, float_format="%.3g", mode="a", header=not path.exists())


def summary(table) -> str:
    """Markdown: medians of both, their ratio, and the exponent of ours in the number of spots."""
    values = table.assign(memory=table["peak_mib"] - table["base_mib"])
    wide = values.groupby(["stage", "spots", "implementation"])["wall_s"].median().unstack("implementation")
    whole = values["stage"] == WHOLE
    memory, memory_whole = (
        values[own].groupby(["spots", "implementation"])["memory"].median().unstack("implementation")
        for own in (~whole, whole)
    )
    lost = set(table.loc[table["fault"] != "", ["implementation", "spots"]].itertuples(index=False, name=None))
    lines = ["| stage | spots a slice | published | this | times faster |", "|---|---|---|---|---|"]

    def row(stage: str, spots: int, found, unit: str) -> str:
        cells = []
        for implementation in ("published", "ours"):
            value = found.get(implementation, np.nan)
            measured = unit == "MiB" or wide.loc[stage].get(implementation, wide.iloc[:, 0] * np.nan).notna().any()
            if (implementation, spots) in lost and measured and (np.isnan(value) or unit == "MiB"):
                cells.append("out of memory")
            else:
                cells.append("–" if np.isnan(value) else f"{value:.3g} {unit}")
        ratio = found.get("published", np.nan) / found.get("ours", np.nan)
        known = np.isfinite(ratio) and "out of memory" not in cells
        return f"| {stage} | {spots:,} | {cells[0]} | {cells[1]} | {f'{ratio:.3g}' if known else '–'} |"

    for stage in (*STAGES, WHOLE):
        for spots in wide.loc[stage].index if stage in wide.index else ():
            lines.append(row(stage, spots, wide.loc[stage, spots], "s"))
    for spots in memory.index:
        lines.append(row("memory over imports and data", spots, memory.loc[spots], "MiB"))
    for spots in memory_whole.index:
        lines.append(row(f"memory, {WHOLE}", spots, memory_whole.loc[spots], "MiB"))
    lines.append("\nExponents of ours in the spots:")
    for stage in STAGES:
        own = wide.loc[stage, "ours"].dropna() if stage in wide.index else []
        if len(own) > 2:
            lines.append(f"- {stage}: {np.polyfit(np.log(own.index), np.log(own), 1)[0]:.2f}")
    own = memory["ours"].dropna()
    lines.append(f"- memory: {np.polyfit(np.log(own.index), np.log(own), 1)[0]:.2f}")
    return "\n".join(lines)


def draw(table, path: str) -> None:
    """Time of each stage, and memory, over the spots of a slice."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    table = table[table["stage"] != WHOLE]
    panels = [*(stage for stage in STAGES if stage in set(table["stage"])), "memory over imports and data"]
    rows = -(-len(panels) // 4)
    figure, axes = plt.subplots(rows, 4, figsize=(12, 3 * rows), layout="constrained", squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    style = {"published": ("#D55E00", "s", "published"), "ours": ("#0072B2", "o", "this workflow")}
    for axis, panel in zip(axes.flat, panels, strict=False):
        for implementation, (colour, marker, label) in style.items():
            own = table[table["implementation"] == implementation]
            if panel in STAGES:
                values = own[own["stage"] == panel].groupby("spots")["wall_s"].median()
            else:
                values = (own["peak_mib"] - own["base_mib"]).where(own["fault"] == "").groupby(own["spots"]).median()
            values = values.dropna()
            axis.plot(values.index, values, color=colour, marker=marker, label=label, markersize=4)
            here = (own["stage"] == panel) & own["wall_s"].isna() if panel in STAGES else own["fault"] != ""
            lost = own.loc[here, "spots"].unique()
            if len(lost) and len(values):
                ends = np.full(len(lost), values.iloc[-1])
                axis.plot(lost, ends, color=colour, marker="x", linestyle="none", label="out of memory")
        axis.set(xscale="log", yscale="log", title=panel.removesuffix(" over imports and data"), xlabel="spots a slice")
        axis.set_ylabel("seconds" if panel in STAGES else "MiB over imports and data")
    known = {
        label: handle for axis in axes.flat for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(known.values(), known.keys(), loc="outside upper center", ncols=len(known), frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?")
    parser.add_argument("figure", nargs="?")
    parser.add_argument("--published", help="Python of an environment with the published package")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--child")
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--spots", type=int)
    parser.add_argument("--epochs", type=int)
    asked = parser.parse_args()
    if asked.child:
        child(asked.child, asked.spots, asked.epochs, asked.whole)
    else:
        length, limits = "quick" if asked.quick else "full", machine()
        print(", ".join(f"{name} {value:.1f}" for name, value in limits.items()), flush=True)
        pythons = {"ours": sys.executable, "published": asked.published}
        found = table_of(SIZES[length], WHOLE_SIZES[length], pythons, repeats=1 if asked.quick else 3)
        found.to_csv(asked.out, sep="\t", index=False, float_format="%.6g")
        record(found, limits, HISTORY)
        draw(found, asked.figure)
        print(summary(found))
