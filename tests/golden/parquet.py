"""Writes the Parquet files of the tests.

    pip install pyarrow==26.0.1
    python tests/golden/parquet.py
"""

import pathlib

import pyarrow
from pyarrow import parquet

FOLDER = pathlib.Path(__file__).parent / "parquet"
PAIRS = [{"prompt": "ladder?", "response": "in the shed"}, {"prompt": "soup?", "response": "leek"}]
MESSAGES = [{"role": "user", "content": "ladder?"}, {"role": "assistant", "content": "in the shed"}]
TEXTS = pyarrow.list_(pyarrow.string())
COLUMNS = pyarrow.array(
    [{name: [message[name] for message in MESSAGES] for name in ("role", "content")}],
    type=pyarrow.struct([("role", TEXTS), ("content", TEXTS)]),
)
LONGLAMP = {
    "name": "ann",
    "input": 'Generate an abstract for the title "Slow Tea"',
    "output": "We steep.",
    "profile": [{"id": "1", "title": "Fast Tea", "abstract": "We do not steep.", "year": 2020}],
}


def write(name, rows, codec):
    table = pyarrow.Table.from_pylist(rows) if isinstance(rows, list) else rows
    path = FOLDER / f"{name}.parquet"
    parquet.write_table(table, path, compression=codec, store_schema=False, write_statistics=False)


for codec in ["snappy", "zstd", "gzip", "lz4", "brotli", "none"]:
    write(codec, PAIRS, codec)
write("messages", [{"messages": MESSAGES, "id": 1}], "zstd")
write("columns", pyarrow.table({"messages": COLUMNS}), "snappy")
write("longlamp", [LONGLAMP], "snappy")
