"""Baseline SpaMosaic, the unmodified published package: from counts, with its preprocessing and the config's settings.

The package pairs the spots of a bridge slice by their order. Training excludes spots that passed quality control in one
modality only; the trained encoders then embed them together with all others.
"""

from mosaic.baselines.run import baseline_run

with baseline_run(__doc__) as task:
    from mosaic import spots
    from mosaic.baselines import published

    slices, train = task.slices(), task.settings["train"]
    for name, parts in slices.items():
        published.preprocess(parts, **task.settings["modalities"][name])
    names = list(dict.fromkeys(adata.obs["slice"].iloc[0] for parts in slices.values() for adata in parts))
    everything = published.by_slice(slices, names)
    model = published.model(
        published.pairs_only(everything),
        names,
        task.settings["graph"],
        seed=task.seed,
        device="cuda:0" if task.gpu else "cpu",
    )
    model.train(
        "wlgcn",
        lr=train["lr"],
        T=train["T"],
        n_epochs=train["n_epochs"] or 100,
        w_rec_g=train["w_rec_g"],
        use_mini_thr=train["full_batch_max"],
        mini_batch_size=train["batch_size"],
    )
    latent = published.embed(model, everything)
    task.write({name: spots.stack(parts, name) for name, parts in slices.items()}, latent)
