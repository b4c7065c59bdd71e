"""The encoders that a run may choose from: which settings each takes, and whether training needs its graph.

The classes are in ``integrate/encoders.py``; docs/adding_an_encoder.md has the steps.
"""

from typing import NamedTuple


class Architecture(NamedTuple):
    """An encoder.

    Attributes
    ----------
    label
        Its name in the log and the report.
    settings
        The keys of the section ``encoder``, beside ``net``, that it takes.
    min_steps
        The smallest number of steps over the graph.
    heads
        Attention heads, which share the hidden layer.
    """

    label: str
    settings: tuple[str, ...]
    min_steps: int = 1
    heads: int = 1


_ALL = ("K", "n_hidden", "n_latent", "dropout")

# The names are those of `encoder.net` in workflow/schemas/config.schema.yaml.
ENCODERS = {
    "wlgcn": Architecture("weighted light graph convolution (WLGCN)", _ALL, min_steps=0),
    "mlp": Architecture("perceptron without a graph (MLP)", ("n_hidden", "n_latent", "dropout")),
    "gcn": Architecture("graph convolutional network (GCN)", _ALL),
    "sage": Architecture("GraphSAGE", _ALL),
    "gat": Architecture("graph attention network (GAT)", _ALL, heads=4),
}


def impossible(net: str, *, K: int, n_hidden: int) -> tuple[str, str, str] | None:
    """A setting that an encoder can't be made with: its key, what is wrong, and a hint; None if there is none.

    Parameters
    ----------
    net
        One of ``ENCODERS``.
    K, n_hidden
        Settings of the section ``encoder``.
    """
    chosen = ENCODERS[net]
    if "K" in chosen.settings and chosen.min_steps > K:
        problem = f"{net} takes {chosen.min_steps} step(s) over the graph or more, not {K}"
        return "K", problem, "net: mlp is the encoder without a graph"
    if n_hidden % chosen.heads:
        problem = f"{net} has {chosen.heads} attention heads, which can't share a hidden layer of {n_hidden} evenly"
        return "n_hidden", problem, f"take a multiple of {chosen.heads}"
    return None
