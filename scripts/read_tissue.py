"""Read the tissue image and the unit of the coordinates of every slice."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from mosaic import frame
    from mosaic.prepare import read, tissue

    slices = {}
    for slice_name, modality, path, options in snakemake.params.rows:
        slices.setdefault(slice_name, []).append((path, modality, options))
    for (name, files), output in zip(slices.items(), snakemake.output, strict=True):
        # The files of a slice are read until one has all.
        frames = (read.read_tissue(path, name, modality=modality, options=options) for path, modality, options in files)
        found = tissue.frame_of_slice(frames, snakemake.params.um_per_unit.get(name))
        frame.write_frame(found, name, output)
