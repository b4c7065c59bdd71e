"""Read the tissue image and the unit of the coordinates of every slice."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from mosaic import frame
    from mosaic.prepare import read, tissue

    slices = {}
    for slice_name, _, path in snakemake.params.rows:
        slices.setdefault(slice_name, []).append(path)
    for (name, paths), output in zip(slices.items(), snakemake.output, strict=True):
        # The files of a slice are read until one has all.
        found = tissue.frame_of_slice(
            (read.read_tissue(path, name) for path in paths), snakemake.params.um_per_unit.get(name)
        )
        frame.write_frame(found, name, output)
