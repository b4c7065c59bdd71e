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
    """

    label: str
    settings: tuple[str, ...]
    min_steps: int = 1


_ALL = ("K", "n_hidden", "n_latent", "dropout")

# The names are those of `encoder.net` in workflow/schemas/config.schema.yaml.
ENCODERS = {
    "wlgcn": Architecture("weighted light graph convolution (WLGCN)", _ALL, min_steps=0),
    "mlp": Architecture("perceptron without a graph (MLP)", ("n_hidden", "n_latent", "dropout")),
    "gcn": Architecture("graph convolutional network (GCN)", _ALL),
    "sage": Architecture("GraphSAGE", _ALL),
    "gat": Architecture("graph attention network (GAT)", _ALL),
}
