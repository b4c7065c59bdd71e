"""Run one variant of the study on one data set, with all seeds, and score it."""

import paths  # noqa: F401

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    import resource
    import time
    from pathlib import Path

    import numpy as np
    import pandas as pd
    import study

    from mosaic import files, matrices, spots, store
    from mosaic.analyse import domains, impute, metrics
    from mosaic.config.schema import read_yaml, with_changes
    from mosaic.config.settings import SCHEMAS, load
    from mosaic.embedding import LATENT
    from mosaic.errors import InputError
    from mosaic.integrate import graph, model, training
    from mosaic.prepare import read

    variant = snakemake.params.variant
    changed = with_changes(dict(snakemake.params.config), variant.get("config", {}))
    schemas = [read_yaml(SCHEMAS / f"{name}.schema.yaml") for name in ("config", "slices")]
    config, sheet = load(changed, *schemas)
    reduced = {Path(path).stem: store.read(path) for path in snakemake.input.reduced}
    counts = spots.read_stacked(snakemake.input.counts)
    known = store.read(snakemake.input.annotations).obs["domain"]
    train = {key: value for key, value in config["train"].items() if key != "threads"}
    features = variant.get("features", "X_corrected")
    graphs = {
        name: graph.build_graph(adata, adata.obsm[features], sheet.mnn_pairs(name), **config["graph"])
        for name, adata in reduced.items()
    }
    hidden = {
        (name, modality): read.read_slice(path, name, config["modalities"][modality]["kind"])
        for (name, modality), path in zip(snakemake.params.hidden, snakemake.input.hidden, strict=True)
    }

    rows = []
    for seed in snakemake.params.seeds:
        edges = {key: config["graph"][key] for key in ("w_g", "symmetric")}
        own = {
            name: study.with_edges(adata, variant.get("edges", "both"), seed=seed, **edges)
            for name, adata in graphs.items()
        }
        to_unpair, apart, n_anchors = study.drawn_anchors(own, seed=seed, **variant.get("anchors", {}))
        own, own_counts = (
            {name: study.unpaired(adata, name, to_unpair.get(name, []), apart) for name, adata in adatas.items()}
            for adatas in (own, counts)
        )
        found = {"anchors": n_anchors}
        try:
            begun = time.process_time()
            encoders, _ = training.fit(own, seed=seed, encoder=config["encoder"], **{**train, "device": "cpu"})
            found["CPU time (s)"] = time.process_time() - begun
        except InputError as error:
            if "drawn" not in variant.get("anchors", {}):
                raise
            # Too few anchors to train on: a result, too.
            print(f"seed {seed}: {error}", flush=True)
            rows += [(seed, metric, value) for metric, value in found.items()]
            continue
        mdata = model.embed(own, encoders)
        mdata.obs["slice"] = mdata.obs["slice"].astype(str).str.split(study.MARK).str[0]
        truth = known.astype(object).reindex(mdata.obs_names.str.split(study.MARK).str[0]).set_axis(mdata.obs_names)
        labels = domains.cluster_domains(
            mdata.obsm[LATENT], "mixture", n_domains=config["cluster"]["n_domains"], seed=seed
        ).labels
        table = metrics.evaluate(mdata, labels, truth, seed=seed)
        table = table[(table["scope"] == "all") | table["metric"].eq(metrics.TRAINING_PAIRS)]
        found |= table.groupby("metric")["value"].mean()[["ARI", "NMI", "iLISI"]].to_dict()
        # Of the true pairs of the bridge slices: those that training saw, and those that it did not.
        latent = {
            name: pd.DataFrame(mdata[name].obsm[LATENT], mdata[name].obs_names.str.split(study.MARK).str[0])
            for name in own
        }
        alignment = {"seen": [], "unseen": []}
        separated = {name.split(study.MARK)[0] for names in to_unpair.values() for name in names}
        for pairs in spots.paired({name: adata.obs for name, adata in graphs.items()}).values():
            first, *others = pairs
            for other in others:
                both = ((pairs[first] >= 0) & (pairs[other] >= 0)).to_numpy()
                names = graphs[first].obs_names[pairs[first].to_numpy()[both]]
                one, two = latent[first].loc[names], latent[other].loc[names]
                unseen = names.isin(separated)
                for part, chosen in (("seen", ~unseen), ("unseen", unseen)):
                    if chosen.any():
                        alignment[part].append(metrics.foscttm(one, two, np.flatnonzero(chosen)))
        found |= {f"FOSCTTM ({part} pairs)": np.mean(values) for part, values in alignment.items() if values}
        for (name, modality), measured in hidden.items():
            imputed = impute.impute_modality(mdata, name, modality, own_counts, **config["impute"])
            both = imputed.obs_names[imputed.obs_names.isin(measured.obs_names)]
            shared = imputed.var_names[imputed.var_names.isin(measured.var_names)]
            pair = (imputed[both, shared].layers["imputed"], measured[both, shared].layers["counts"])
            scores = metrics.imputation_scores(*map(matrices.dense, pair))
            found.setdefault("imputed r", []).append(scores["pearson_feature"])
        found = {metric: float(np.mean(value)) for metric, value in found.items()}
        found["peak memory (MiB)"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows += [(seed, metric, value) for metric, value in found.items()]
    table = pd.DataFrame(rows, columns=["seed", "metric", "value"])
    files.write_table(table, snakemake.output[0], index=False, na_rep="NA", float_format="%.6g")
