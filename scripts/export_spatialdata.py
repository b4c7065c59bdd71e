"""Write the results of a run as SpatialData; runs in an environment of its own (envs/spatialdata.yaml)."""

import argparse

from mosaic.logs import job_log

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--mudata", required=True, help="integrated.h5mu")
parser.add_argument("--tissue", nargs="+", required=True, help="files named {slice}.json")
parser.add_argument("--log", required=True)
parser.add_argument("--output", required=True, help="integrated.zarr")
asked = parser.parse_args()
with job_log(asked.log):
    from mosaic import store
    from mosaic.analyse import spatial_data
    from mosaic.frame import read_frames

    made = spatial_data.to_spatial_data(store.read(asked.mudata), read_frames(asked.tissue))
    made.write(asked.output)
