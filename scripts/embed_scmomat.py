"""Embed with scMoMaT: matrices of all modalities factorised at once, each spot's factors its coordinates."""

from mosaic.peers import program

with program(__doc__) as task:
    import numpy as np
    import pandas as pd
    import scmomat
    import torch

    from mosaic import spots

    torch.set_num_threads(task.asked.threads)
    # A step draws a tenth of the spots of a batch, and none of fewer than this.
    fewest = 10
    names = {"rna": "RNA", "protein": "protein", "epigenome": "ATAC"}
    graphs = task.selected()
    index = spots.union({name: graph.obs for name, graph in graphs.items()})
    # All spots of a batch have the same modalities, so those that a bridge slice has beside its pairs are batches, too.
    batches = [list(own.index) for _, own in index.groupby(["slice", "modalities"], observed=True, sort=False)]
    repeated = [own * -(-fewest // len(own)) if len(own) < fewest else own for own in batches]
    counts = {"nbatches": len(batches)}
    for name, graph in graphs.items():
        counts[name] = []
        for own in repeated:
            there = own[0] in graph.obs_names
            values = graph[own].layers["counts"].toarray() if there else None
            counts[name].append(scmomat.preprocess(values, modality=names[task.kinds[name]]) if there else None)
    device = torch.device("cuda:0" if task.gpu and torch.cuda.is_available() else "cpu")
    model = scmomat.scmomat_model(counts, K=30, seed=task.seed, device=device)
    model.train_func(T=4000)
    factors = zip(model.extract_cell_factors(), batches, strict=True)
    task.write_joint(graphs, pd.concat([pd.DataFrame(np.asarray(z)[: len(own)], own) for z, own in factors]))
