"""Baseline CellCharter: scVI of RNA, a batch per slice, and its means over three rings of neighbours on the tissue."""

from mosaic.baselines.run import baseline_run

with baseline_run(__doc__) as task:
    import cellcharter as cc
    import pandas as pd
    import scvi
    import squidpy as sq
    import torch

    torch.set_num_threads(task.asked.threads)
    scvi.settings.seed = task.seed
    graphs = task.selected()
    adata = graphs[task.of_kind("rna")]
    scvi.model.SCVI.setup_anndata(adata, layer="counts", batch_key="slice")
    model = scvi.model.SCVI(adata)
    model.train(early_stopping=True, accelerator="auto" if task.gpu else "cpu", enable_progress_bar=False)
    adata.obsm["X_scVI"] = model.get_latent_representation()
    sq.gr.spatial_neighbors(adata, library_key="slice", coord_type="generic", delaunay=True)
    cc.gr.remove_long_links(adata)
    cc.gr.aggregate_neighbors(adata, n_layers=3, use_rep="X_scVI", sample_key="slice")
    task.write_joint(graphs, pd.DataFrame(adata.obsm["X_cellcharter"], adata.obs_names))
