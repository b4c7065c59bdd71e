"""Baseline MIDAS: counts of all modalities; a spot has the biological part of its joint latent space."""

from mosaic.baselines.run import baseline_run, batches

with baseline_run(__doc__) as task:
    import os

    if not task.gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # MIDAS predicts on any GPU that it sees
    import torch

    from mosaic import spots
    from mosaic.baselines import midas

    torch.set_num_threads(task.asked.threads)
    torch.manual_seed(task.seed)
    graphs = task.selected()
    groups, few = batches(spots.union({name: graph.obs for name, graph in graphs.items()}))
    read = midas.inputs(graphs, task.kinds)
    model = midas.train(read, groups, accelerator="auto" if task.gpu else "cpu")
    task.write_joint(graphs, midas.latent(model, read, groups, few))
