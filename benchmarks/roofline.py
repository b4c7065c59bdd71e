"""How near each kernel comes to what the machine can do, on two threads.

    .venv/bin/python benchmarks/roofline.py OUT.tsv [N_SPOTS ...]

Two slices of N spots with two modalities of 50 features, as speed.py makes them. For each kernel its least work is
counted: products of matrices and other sums (floating-point operations), exponentials, and bytes that have to be read
or written once. At the rates that speed.py measures, the work takes a least time; its share of the time that the kernel
takes is printed. Where the work is of several kinds, the least time is their sum, as they follow one another. The
search of the spatial graph has no such bound: a tree compares few of the spots, in no order that memory likes.
"""

import sys
import timeit
from collections.abc import Callable
from typing import NamedTuple

import library  # noqa: F401
import numpy as np
import pandas as pd
import torch
from scipy import sparse
from speed import N_DOMAINS, N_FEATURES, T, machine, make_slices
from torch.utils.flop_counter import FlopCounterMode
from torch_geometric.data import Data

from mosaic import mnn
from mosaic.analyse.random_field import FieldSettings, View, averages, fit_field
from mosaic.integrate.encoders import EncoderSettings, Propagation, make_encoder
from mosaic.integrate.losses import contrastive_loss, reconstruction_loss
from mosaic.spatial import spatial_neighbors

# Edges of a spot on the tissue, and what one takes in a sparse matrix: its weight and its column.
DEGREE, EDGE_BYTES = 10, 12


class Kernel(NamedTuple):
    """A call, and the least work of it."""

    call: Callable[[], object]
    products: float = 0.0
    exponentials: float = 0.0
    traffic: float = 0.0
    sums: float = 0.0

    def least_seconds(self, rates: dict[str, float]) -> float:
        """At the machine's rates; a sum is half of a fused multiplication and addition, and takes as long."""
        gemm, exponentials, copies = (1e9 * rates[name] for name in ("gemm_gflops", "exp_g", "copy_gb"))
        return (self.products + 2 * self.sums) / gemm + self.exponentials / exponentials + self.traffic / copies


def kernels(n_spots: int) -> dict[str, Kernel]:
    """Those of one training step, and of what comes before and after training."""
    slices = make_slices(n_spots)
    (first, places), (second, _) = slices["rna"]
    graph = spatial_neighbors(places, DEGREE)
    within = sparse.block_diag([graph, graph], format="coo")
    edges = torch.from_numpy(np.vstack([within.row, within.col]).astype(np.int64))
    settings = EncoderSettings()
    width = settings.n_latent

    torch.manual_seed(0)
    latent = torch.nn.functional.normalize(torch.randn(2 * n_spots, width)).requires_grad_()
    spot = torch.arange(n_spots).repeat(2)

    def contrast() -> None:
        contrastive_loss(latent, spot, T).backward()

    encoder = make_encoder(N_FEATURES, settings)
    data = Data(
        x=torch.from_numpy(np.vstack([first, second])), edge_index=edges, edge_weight=torch.ones(edges.shape[1])
    )
    rows = encoder.inputs(data).x
    optimizer = torch.optim.Adam(encoder.parameters())

    def step() -> None:
        optimizer.zero_grad()
        embedded, reconstruction = encoder(rows)
        (embedded.sum() + reconstruction_loss(reconstruction, rows[:, :N_FEATURES])).backward()
        optimizer.step()

    propagation = Propagation(settings.K)
    both = np.vstack([first, second])
    views = [View(np.arange(2 * n_spots), np.vstack([own for own, _ in slices[name]])) for name in slices]
    names = np.repeat([0, 1], n_spots)
    average = averages(np.vstack([places, places]), names)
    start = np.random.default_rng(0).dirichlet(np.ones(N_DOMAINS), 2 * n_spots).astype(np.float32)
    once = FieldSettings(rounds=1)
    around = average.nnz * EDGE_BYTES + 2 * start.nbytes
    return {
        "contrastive loss and its gradient": Kernel(
            contrast, 2 * (2 * n_spots) ** 2 * (3 * width + 1), exponentials=(2 * n_spots) ** 2
        ),
        "encoder's step": Kernel(step, _products(step)),
        "propagation": Kernel(
            lambda: propagation(data.x, data.edge_index, data.edge_weight),
            traffic=settings.K * (edges.shape[1] * EDGE_BYTES + 2 * both.nbytes),
        ),
        "mutual neighbours": Kernel(
            lambda: mnn.mutual_nearest_neighbors(first, second, 10), sums=2 * n_spots**2 * N_FEATURES
        ),
        "tissue field's round": Kernel(
            lambda: fit_field(views, average, names, start, settings=once),
            products=len(views) * 2 * 2 * (2 * n_spots) * N_DOMAINS * N_FEATURES
            # In float64, at half the rate.
            + 2 * len(views) * 2 * (2 * n_spots) * N_FEATURES**2,
            exponentials=once.sweeps * start.size,
            traffic=(once.sweeps + 1) * around,
        ),
    }


def _products(call: Callable[[], object]) -> float:
    """Floating-point operations of the products of matrices in a call of torch."""
    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


def measure(sizes: list[int], repeats: int = 5) -> pd.DataFrame:
    """The fastest of a kernel's repeats beside its bound. Needs a machine that does nothing else."""
    torch.set_num_threads(2)
    rates, found = machine(), []
    print(", ".join(f"{name} {value:.1f}" for name, value in rates.items()), flush=True)
    for n_spots in sizes:
        for name, kernel in kernels(n_spots).items():
            kernel.call()
            seconds = min(timeit.repeat(kernel.call, number=1, repeat=repeats))
            least = kernel.least_seconds(rates)
            found.append(
                {"kernel": name, "spots": n_spots, "seconds": seconds, "least": least, "share": least / seconds}
            )
            print(f"{name}, {n_spots:,} spots a slice: {seconds:.4f} s, {100 * least / seconds:.0f} % of the bound")
    return pd.DataFrame(found)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    measure([int(size) for size in sys.argv[2:]] or [3_500, 8_000]).to_csv(
        sys.argv[1], sep="\t", index=False, float_format="%.4g"
    )
