"""Runs in the environment of dlt: the pipeline that its documents suggest for files of JSON rows.

`python dlt_pipeline.py URL KEY FOLDER`, into FOLDER/warehouse.duckdb by way of Parquet.
"""

import gzip
import json
import sys
from pathlib import Path

import dlt
from dlt.sources.helpers import requests


@dlt.resource(name="events", write_disposition="append")
def events(url, key):
    headers = {"Authorization": f"Basic {key}"}
    start = 0
    while True:
        answer = requests.get(f"{url}/api/v1/export/list", params={"start": start}, headers=headers)
        exports = answer.json()["exports"]
        if not exports:
            return
        for export in exports:
            got = requests.get(f"{url}/api/v1/export/get", params={"id": export["Id"]}, headers=headers)
            content = got.content
            yield json.loads(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
        start = exports[-1]["Stop"]


if __name__ == "__main__":
    url, key, folder = sys.argv[1:]
    pipeline = dlt.pipeline(
        "peers",
        pipelines_dir=str(Path(folder, "pipelines")),
        destination=dlt.destinations.duckdb(str(Path(folder, "warehouse.duckdb"))),
        dataset_name="fullstory",
    )
    pipeline.run(events(url, key), loader_file_format="parquet")
