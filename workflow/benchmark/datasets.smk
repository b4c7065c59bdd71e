# Each data set of the benchmark as a run of the workflow, loaded as a module, and the rule that makes its files.


for dataset in DATASETS:
    prefix = f"{dataset}_"

    module:
        name: dataset
        pathvars:
            results=f"{RESULTS}/{dataset}",
        snakefile:
            "../Snakefile"
        config:
            settings_of(dataset)

    use rule * from dataset exclude all, simulate_demo as prefix*

    rule:
        name:
            f"make_{dataset}"
        input:
            design=ROOT / "resources" / "demo.yaml",
            library=library("make_dataset"),
        output:
            slices=ensure(raw(dataset, "slices"), non_empty=True),
            hidden=ensure(raw(dataset, "hidden"), non_empty=True),
        log:
            f"{RESULTS}/logs/make/{dataset}.log",
        conda:
            "../../envs/prepare.yaml"
        threads: 1
        resources:
            mem_mb=4000,
            runtime=30,
        params:
            dataset={key: value for key, value in DATASETS[dataset].items() if key not in ("config", "leave_out")},
            data=config["data"],
        message:
            f"Making the slices of {dataset}"
        script:
            "scripts/make_dataset.py"
