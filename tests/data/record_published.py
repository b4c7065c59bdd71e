"""Record what the published implementation makes of a corner of its own simulation, as vectors for the parity tests.

Needs the environment of envs/published.yaml (`make speed` builds it), and as arguments features that
the package made of the simulation (`inputs.npz`) and the folder of its counts (`s1_rna.h5ad`, ...):

    .venv-published/bin/python tests/data/record_published.py inputs.npz simulation/replicate1 tests/data/published.npz
"""

import sys
import types

import anndata as ad
import numpy as np
import torch

SLICES = {"rna": ["s1", "s2", None], "adt": ["s1", None, "s3"]}
LACKING = {"rna": "s3", "adt": "s2"}
# Of the 36 x 36 spots of a slice, this corner; and of its outputs every eighth, as all would make the file too large.
SIDE, EVERY = 16, 8


def scatter_add(values, index, dim=0, dim_size=None):
    """The one use that the package makes of torch-scatter, which would have to be compiled."""
    return torch.zeros(dim_size, dtype=values.dtype).index_add(0, index, values)


sys.modules["torch_scatter"] = types.SimpleNamespace(scatter_add=scatter_add)
from spamosaic.architectures.wlgcn import WLGCN_vanilla, sym_norm  # noqa: E402 - after the stand-in
from spamosaic.framework import SpaMosaic  # noqa: E402
from spamosaic.preprocessing import ADT_preprocess, Epigenome_preprocess, RNA_preprocess  # noqa: E402

PREPROCESSING = {
    "scanpy": (RNA_preprocess, "rna", {"favor": "scanpy", "n_hvg": 100}),
    "adapted": (RNA_preprocess, "rna", {"favor": "adapted", "n_hvg": 100}),
    "clr": (ADT_preprocess, "adt", {}),
    "lognorm": (ADT_preprocess, "adt", {"favor": "lognorm", "scale": True}),
    "peaks": (Epigenome_preprocess, "rna", {"n_peak": 150}),
}


def corner(inputs, folder, modality, name):
    places = inputs[f"spatial_{modality}_{name}"]
    axes = [np.unique(places[:, axis]) for axis in (0, 1)]
    inside = (places[:, 0] <= axes[0][SIDE - 1]) & (places[:, 1] <= axes[1][SIDE - 1])
    counts = ad.read_h5ad(f"{folder}/{name}_{modality}.h5ad").to_df().to_numpy(np.float32)[inside]
    adata = ad.AnnData(counts, layers={"counts": counts})
    adata.obs_names = [f"{name}-{number}" for number in range(adata.n_obs)]
    adata.obs["src"] = name
    adata.obsm.update({"spatial": places[inside], "dimred_bc": inputs[f"{modality}_{name}"][inside]})
    return adata


def weights(model):
    return {f"{k}|{key}": t.numpy().copy() for k, net in model.items() for key, t in net.state_dict().items()}


def outputs(graphs, model):
    made = {}
    with torch.no_grad():
        for k, net in model.items():
            z, r = net.eval()(graphs["attribute"][k], graphs["edge"][k], graphs["edgeW"][k])
            made |= {f"{k}|z": z[::EVERY].numpy(), f"{k}|reconstruction": r[::EVERY].numpy()}
            net.train()
    return made


def harmony(data):
    """Features before and after the package's Harmony."""
    kept = {}
    for name in ("scanpy", "clr"):
        function, k, options = PREPROCESSING[name]
        for stage in ("before", "after"):
            function(data[k], n_comps=10, batch_key="src", key="made", batch_corr=stage == "after", **options)
            rows = [adata.obsm["made"] for adata in data[k] if adata]
            kept[f"harmony|{k}|{stage}"] = np.vstack(rows).astype(np.float32)
    return kept


def record(inputs, folder):
    """Everything that the tests compare, by name."""
    torch.set_num_threads(2)
    data = {k: [name and corner(inputs, folder, k, name) for name in names] for k, names in SLICES.items()}
    model = SpaMosaic(data, "dimred_bc", batch_key="src", intra_knns=10, inter_knn_base=10, seed=1234, device="cpu")
    kept = {}
    for name, (function, k, options) in PREPROCESSING.items():
        function(data[k], n_comps=5, batch_key="src", key="made", **options)
        kept[f"preprocessing|{name}"] = np.vstack([adata.obsm["made"] for adata in data[k] if adata]).astype(np.float32)
    kept |= harmony(data)
    for k, names in SLICES.items():
        for name, adata in zip(names, data[k], strict=True):
            if name:
                kept[f"{k}|{name}|features"] = adata.obsm["dimred_bc"]
                kept[f"{k}|{name}|coordinates"] = adata.obsm["spatial"]
                kept[f"{k}|{name}|counts"] = adata.layers["counts"].astype(np.int32)
                adjacency = adata.uns["adj"].tocoo()
                kept[f"{k}|{name}|adjacency"] = np.vstack([adjacency.row, adjacency.col]).astype(np.int16)
        X, edges, loads = (model.mod_graphs[key][k] for key in ("attribute", "edge", "edgeW"))
        kept[f"{k}|edges"] = edges.numpy().astype(np.int16)
        kept[f"{k}|between_slices"] = loads.numpy() < 1
        kept[f"{k}|normalised_edges"], norm = sym_norm(edges, len(X), loads)
        kept[f"{k}|normalised_edges"] = kept[f"{k}|normalised_edges"].numpy().astype(np.int16)
        kept[f"{k}|normalised_weights"] = norm.numpy()
        kept[f"{k}|hops"] = WLGCN_vanilla(K=2)(X, edges, loads)[::EVERY].numpy()

    prepare, step, gradients = model.prepare_net, torch.optim.Adam.step, {}

    def without_dropout(net):
        nets = prepare(net)
        for encoder in nets.values():
            encoder.dropout1.p = 0.0
        kept.update({f"initial|{key}": value for key, value in weights(nets).items()})
        kept.update({f"initial|{key}": value for key, value in outputs(model.mod_graphs, nets).items()})
        model.mod_model = nets
        return nets

    def watched(optimizer, *arguments, **named):
        for k, net in model.mod_model.items():
            for key, parameter in net.named_parameters():
                gradients.setdefault(f"gradient|{k}|{key}", parameter.grad.numpy().copy())
        return step(optimizer, *arguments, **named)

    model.prepare_net, torch.optim.Adam.step = without_dropout, watched
    model.train("wlgcn", lr=0.01, T=0.1, n_epochs=100)
    torch.optim.Adam.step = step
    kept |= gradients
    kept |= {"loss_cl": np.array(model.loss_cl), "loss_rec": np.array(model.loss_rec)}
    kept |= {f"trained|{key}": value for key, value in weights(model.mod_model).items()}
    kept |= {f"trained|{key}": value for key, value in outputs(model.mod_graphs, model.mod_model).items()}
    model.infer_emb(data)
    imputed = model.impute(data)
    for k, names in SLICES.items():
        for name, adata, values in zip(names, data[k], imputed[k], strict=True):
            if name:
                kept[f"{k}|{name}|emb"] = adata.obsm["emb"]
            else:
                kept[f"{k}|{LACKING[k]}|imputed"] = values.astype(np.float32)
    return kept


if __name__ == "__main__":
    np.savez_compressed(sys.argv[3], **record(np.load(sys.argv[1]), sys.argv[2]))
