"""Measures what a training's start costs by the number of records of its data set.

    python -m scripts.benchmarks.records --records 6000 60000 600000 6000000

Prints a table for each number: seconds to write what is kept beside the records, and then, in a
process of its own, CPU seconds to open it (index of the records, texts, clusters, shapes of
targets), the memory that this keeps (mapped files apart), and CPU microseconds to choose the
references and to read the tags of an example. Records are empty: reading images costs the same
whatever their number. What the first start does once, reading each image's head, is not in it.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import grain
import numpy as np
from array_record.python import array_record_module

from configs import composition
from rbjax.data import buckets, references
from rbjax.data import texts as texts_lib
from rbjax.data.texts import Texts
from tfds_retribooru.clusters import Clusters

WORDS = [f"tag {number}" for number in range(3000)]
PROMPT = 30  # tags
OUTFITS, IMAGES = 3, 4  # of a character, of an outfit
DRAWS = 5_000
SPLIT = "train"


def make(folder: pathlib.Path, count: int) -> None:
    """Writes records, texts and clusters of so many records."""
    rng = np.random.default_rng(0)
    writer = array_record_module.ArrayRecordWriter(str(folder / "records"), "group_size:1")
    for _ in range(count):
        writer.write(b"\0" * 8)
    writer.close()
    (folder / "dataset_info.json").write_text("{}")
    prompts = [", ".join(rng.choice(WORDS, PROMPT)) for _ in range(1000)]  # which repeat
    rows = ((prompts[i % len(prompts)], True, True, (512, 640)) for i in range(count))
    texts_lib.save(rows, folder, SPLIT)
    make_clusters(count).save(folder / "clusters.npz")


def make_clusters(count: int) -> Clusters:
    """Builds clusters of characters with OUTFITS outfits of IMAGES images."""
    order = np.arange(count, dtype=np.int32)
    outfit = order // IMAGES
    character = outfit // OUTFITS
    names = np.array([f"{i:07d}" for i in range(character[-1] + 1)])
    return Clusters(
        character=character,
        outfit=outfit,
        order=order,
        rank=order,
        character_start=np.append(order[:: IMAGES * OUTFITS], count).astype(np.int32),
        outfit_start=np.append(order[::IMAGES], count).astype(np.int32),
        similar_start=np.zeros(count + 1, np.int64),
        similar=np.zeros(0, np.int32),
        names=names,
        variant=order,
    )


def measure(folder: pathlib.Path) -> dict[str, float]:
    """Opens what `make` wrote, and uses it."""
    before, start = memory("RssAnon"), time.process_time()
    source = grain.sources.ArrayRecordDataSource(str(folder / "records"))
    count = len(source)
    found = texts_lib.find(folder, SPLIT)
    assert isinstance(found, Texts)
    clusters = Clusters.load(folder / "clusters.npz")
    shapes = buckets.assign(found.sizes, buckets.shapes(composition.sd15().data), least=16)
    opened, kept = time.process_time() - start, memory("RssAnon") - before
    assert len(shapes) == len(clusters) == count
    rng, tags = np.random.default_rng(0), found.tags
    start = time.process_time()
    for target in rng.integers(0, count, DRAWS):
        references.choose(clusters, int(target), task="composition", faces=2, clothes=2, rng=rng)
        tags[int(target)]
    used = time.process_time() - start
    most = memory("VmHWM")
    return {"open": opened, "memory": kept, "choose": used / DRAWS * 1e6, "total": most}


def memory(field: str) -> float:
    """Returns a field of this process in MiB: RssAnon (without mapped files), VmHWM (the most)."""
    status = pathlib.Path("/proc/self/status").read_text()
    (found,) = re.findall(rf"{field}:\s+(\d+)", status)
    return int(found) / 1024


def main(argv: list[str] | None = None) -> None:
    """Prints a row for each number of records."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, nargs="+", default=[6_000, 60_000, 600_000])
    parser.add_argument("--measure", type=pathlib.Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.measure:
        print(json.dumps(measure(args.measure)))
        return
    print("| records | write, s | open, CPU s | kept, MiB | process, MiB | example, CPU us |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for count in args.records:
        with tempfile.TemporaryDirectory() as name:
            folder, start = pathlib.Path(name), time.perf_counter()
            make(folder, count)
            written = time.perf_counter() - start
            command = [sys.executable, "-m", "scripts.benchmarks.records", "--measure", name]
            found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        print(
            f"| {count:,} | {written:.1f} | {found['open']:.2f} | {found['memory']:.0f} | "
            f"{found['total']:.0f} | {found['choose']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
