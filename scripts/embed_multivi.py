"""Baseline MultiVI: counts of RNA and chromatin, zero where a spot lacks one; a batch per slice.

Each modality has the coordinates of its encoder. Training aligns the encoders; their mean is MultiVI's joint space.
"""

from mosaic.baselines.run import baseline_run

with baseline_run(__doc__) as task:
    import anndata as ad
    import mudata as md
    import scvi
    import torch

    from mosaic import spots
    from mosaic.matrices import placed

    torch.set_num_threads(task.asked.threads)
    scvi.settings.seed = task.seed
    graphs = task.selected()
    index = spots.union({name: graph.obs for name, graph in graphs.items()})
    rows = {name: index.index.get_indexer(graph.obs_names) for name, graph in graphs.items()}
    layers = {"rna_layer": task.of_kind("rna"), "atac_layer": task.of_kind("epigenome")}
    counts = {
        name: ad.AnnData(
            placed(graphs[name].layers["counts"], rows[name], (len(index), graphs[name].n_vars)),
            obs=index[[]],
            var=graphs[name].var[[]],
        )
        for name in layers.values()
    }
    mdata = md.MuData(counts)
    mdata.obs["slice"] = index["slice"].astype(str)
    scvi.model.MULTIVI.setup_mudata(mdata, batch_key="slice", modalities=layers)
    model = scvi.model.MULTIVI(mdata)
    model.train(accelerator="auto" if task.gpu else "cpu", enable_progress_bar=False)
    latent = {}
    for layer, encoder in (("rna_layer", "expression"), ("atac_layer", "accessibility")):
        latent[layers[layer]] = model.get_latent_representation(modality=encoder)[rows[layers[layer]]]
    task.write(graphs, {name: latent[name] for name in graphs})
