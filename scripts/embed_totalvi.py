"""Baseline totalVI: counts of RNA, and of proteins in slices that have them; a batch per slice."""

from mosaic.baselines.run import baseline_run

with baseline_run(__doc__) as task:
    import anndata as ad
    import pandas as pd
    import scvi
    import torch

    from mosaic.matrices import placed

    torch.set_num_threads(task.asked.threads)
    scvi.settings.seed = task.seed
    graphs = task.selected()
    rna, protein = graphs[task.of_kind("rna")], graphs[task.of_kind("protein")]
    adata = ad.AnnData(rna.layers["counts"].copy(), obs=rna.obs[["slice"]].astype(str), var=rna.var[[]])
    both = adata.obs_names.isin(protein.obs_names)
    # totalVI treats proteins that are zero in a whole batch as missing, so spots without protein form a separate batch.
    adata.obs["batch"] = adata.obs["slice"].where(both, adata.obs["slice"] + " without proteins")
    measured = protein[protein.obs_names.isin(adata.obs_names)]
    rows = adata.obs_names.get_indexer(measured.obs_names)
    counts = placed(measured.layers["counts"], rows, (adata.n_obs, protein.n_vars)).toarray()
    adata.obsm["proteins"] = pd.DataFrame(counts, adata.obs_names, protein.var_names)
    scvi.model.TOTALVI.setup_anndata(adata, protein_expression_obsm_key="proteins", batch_key="batch")
    model = scvi.model.TOTALVI(adata)
    model.train(accelerator="auto" if task.gpu else "cpu", enable_progress_bar=False)
    task.write_joint(graphs, pd.DataFrame(model.get_latent_representation(), adata.obs_names))
