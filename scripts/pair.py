"""Compare the files of a run, and fail if they do not match."""

from mosaic.logs import job

with job(snakemake.log[0]):
    import json
    from pathlib import Path

    from mosaic import files, store
    from mosaic.prepare import pairing

    slices = {tuple(Path(path).name.split(".")[:2]): store.read(path, layers=False) for path in snakemake.input.slices}
    found = pairing.compare(slices)
    pairing.tell(found)
    told = {"spots": found.spots.to_dict("records"), "features": found.features.to_dict("records")}
    # The report marks values below this.
    told["few_below"] = pairing.WARN_BELOW
    told["warnings"] = [str(warning) for warning in found.warnings]
    with files.whole_file(snakemake.output[0]) as unfinished:
        unfinished.write_text(json.dumps(told, indent=1), encoding="utf-8")
