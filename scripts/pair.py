"""Compare the files of a run, and fail if they do not match."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    import json
    from pathlib import Path

    from mosaic import files, store
    from mosaic.check import agreement
    from mosaic.prepare import pairing

    slices, profiles, fingerprints = {}, {}, {}
    for path in map(Path, snakemake.input.slices):
        key = tuple(path.name.split(".")[:2])
        slices[key] = store.read(path)
        fingerprints[key] = pairing.fingerprint(slices[key])
        if "counts" in slices[key].layers:
            profiles[key] = agreement.profile(slices[key])
            # One slice's counts are in memory at a time.
            del slices[key].layers["counts"]
    found = pairing.compare(slices, fingerprints)
    agreements = agreement.agreements(profiles)
    found = found._replace(warnings=[*found.warnings, *agreement.warnings(agreements)])
    pairing.report(found)
    told = {"spots": found.spots.to_dict("records"), "features": found.features.to_dict("records")}
    # JSON has no NaN.
    told["agreement"] = agreements.astype(object).where(agreements.notna(), None).to_dict("records")
    # The report marks values below this.
    told["few_below"] = pairing.WARN_BELOW
    told["warnings"] = [str(warning) for warning in found.warnings]
    with files.atomic_write(snakemake.output[0]) as unfinished:
        unfinished.write_text(json.dumps(told, indent=1), encoding="utf-8")
