"""A target of the singer SDK, 300 rows a request. singer_sink.py CSV URL; the tap is this script's first half."""

import csv
import json
import sys
import threading
from io import TextIOWrapper
from os import fdopen, pipe

import requests
from events import event_of
from singer_sdk.sinks import BatchSink
from singer_sdk.target_base import Target

session = requests.Session()
CSV, URL = sys.argv[1:3]


class Orders(BatchSink):
    """Sends a batch once it is full."""

    name = "orders"
    max_size = 300

    def process_batch(self, context):
        """Send one batch."""
        events = [event_of(row) for row in context["records"]]
        answer = session.post(URL, json=events, timeout=30)
        answer.raise_for_status()


class Bench(Target):
    """The target."""

    name = "bench"
    config_jsonschema = {"type": "object", "properties": {}}
    default_sink_class = Orders


def tap(out):
    """Write the export as Singer messages."""
    with open(CSV, newline="", encoding="utf-8") as file, out:
        reader = csv.DictReader(file)
        schema = {
            "type": "object",
            "properties": {n: {"type": "string"} for n in reader.fieldnames},
        }
        message = {"type": "SCHEMA", "stream": "orders", "schema": schema, "key_properties": []}
        out.write(json.dumps(message) + "\n")
        for row in reader:
            out.write(json.dumps({"type": "RECORD", "stream": "orders", "record": row}) + "\n")


reading, writing = pipe()
threading.Thread(target=tap, args=(fdopen(writing, "w", encoding="utf-8"),), daemon=True).start()
Bench(config={}).listen(TextIOWrapper(fdopen(reading, "rb"), encoding="utf-8"))
