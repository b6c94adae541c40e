"""A script that checks nothing. itertuples.py FILE [grouped|flawed]; prints requests and bytes."""

import json
import sys

import pandas as pd
from events import bodies_of, events_of

path, way = sys.argv[1], dict.fromkeys(sys.argv[2:], True)
table = (
    pd.read_parquet(path) if path.endswith(".parquet") else pd.read_csv(path, dtype={"phone": str})
)
rows = (row._asdict() for row in table.itertuples(index=False))
encoded = (
    json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
    for event in events_of(rows, **way)
)
sizes = [len(body) for body in bodies_of(encoded)]
print(json.dumps({"requests": len(sizes), "bytes": sum(sizes)}))
