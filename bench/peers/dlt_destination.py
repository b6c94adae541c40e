"""dlt with a custom destination, 300 rows a request. dlt_destination.py CSV URL FOLDER."""

import csv
import os
import sys

os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "DLT_DATA_DIR": sys.argv[3]}
import dlt
import requests
from events import event_of

session = requests.Session()


@dlt.destination(batch_size=300, naming_convention="direct", loader_file_format="typed-jsonl")
def sink(items, table):
    """Send one batch."""
    answer = session.post(sys.argv[2], json=[event_of(row) for row in items], timeout=30)
    answer.raise_for_status()


@dlt.resource(name="orders")
def orders():
    """Read the export."""
    with open(sys.argv[1], newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        page = []
        for row in reader:
            page.append(row)
            if len(page) == 5000:
                yield page
                page = []
        yield page


pipeline = dlt.pipeline("bench", destination=sink, pipelines_dir=sys.argv[3])
pipeline.run(orders())
