"""Baseline scMoMaT: joint factorisation of all matrices; the coordinates of a spot are its factors."""

from mosaic.baselines.run import baseline_run, batches

with baseline_run(__doc__) as task:
    import pandas as pd
    import scmomat
    import torch

    from mosaic import spots

    torch.set_num_threads(task.asked.threads)
    names = {"rna": "RNA", "protein": "protein", "epigenome": "ATAC"}
    graphs = task.selected()
    index = spots.union({name: graph.obs for name, graph in graphs.items()})
    groups, _ = batches(index)
    counts = {"nbatches": len(groups)}
    for name, graph in graphs.items():
        counts[name] = []
        for own in groups:
            there = own[0] in graph.obs_names
            values = graph[own].layers["counts"].toarray() if there else None
            counts[name].append(scmomat.preprocess(values, modality=names[task.kinds[name]]) if there else None)
    device = torch.device("cuda:0" if task.gpu and torch.cuda.is_available() else "cpu")
    model = scmomat.scmomat_model(counts, K=30, seed=task.seed, device=device)
    model.train_func(T=4000)
    factors = zip(model.extract_cell_factors(), groups, strict=True)
    task.write_joint(graphs, pd.concat([pd.DataFrame(z, own) for z, own in factors]))
