"""Baseline scMoMaT: joint factorisation of all matrices; the coordinates of a spot are its factors."""

from mosaic.baselines.run import baseline_run

with baseline_run(__doc__) as task:
    import pandas as pd
    import scmomat
    import torch

    from mosaic import spots

    torch.set_num_threads(task.asked.threads)
    names = {"rna": "RNA", "protein": "protein", "epigenome": "ATAC"}
    graphs = task.selected()
    index = spots.union({name: graph.obs for name, graph in graphs.items()})
    # All spots of a batch must have the same modalities, so unpaired spots of a bridge slice form a separate batch.
    # Omit them if they are few: ten spots among thousands reduced the ARI of the demo from .83 to .52.
    fewest = 0.05
    sizes = index["slice"].value_counts()
    groups = index.groupby(["slice", "modalities"], observed=True, sort=False)
    batches = [own.index for (name, _), own in groups if len(own) > fewest * sizes[name]]
    counts = {"nbatches": len(batches)}
    for name, graph in graphs.items():
        counts[name] = []
        for own in batches:
            there = own[0] in graph.obs_names
            values = graph[own].layers["counts"].toarray() if there else None
            counts[name].append(scmomat.preprocess(values, modality=names[task.kinds[name]]) if there else None)
    device = torch.device("cuda:0" if task.gpu and torch.cuda.is_available() else "cpu")
    model = scmomat.scmomat_model(counts, K=30, seed=task.seed, device=device)
    model.train_func(T=4000)
    factors = zip(model.extract_cell_factors(), batches, strict=True)
    task.write_joint(graphs, pd.concat([pd.DataFrame(z, own) for z, own in factors]))
