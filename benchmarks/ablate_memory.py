"""Claim: ablating 100,000 images takes no more memory than ablating 1,000: at most a tenth more.

Each count is a process of its own, whose peak is what the operating system says (ru_maxrss). Images are drawn into a
Parquet file, a folder or an .npz file; scores are saved with --save where asked.

    python benchmarks/ablate_memory.py --counts 1000 100000 --source parquet --save out.parquet
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

LIMIT = 1.10


def main() -> None:
    options = parse()
    if options.count is not None:
        print(json.dumps(run_one(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        source = draw(options.source, Path(folder), max(options.counts))
        found = [measure(options, source, Path(folder), count) for count in options.counts]
    for row in found:
        rate = row["count"] / row["seconds"]
        print(
            f"{row['count']:8,d} images: peak {row['peak_mib']:7.1f} MiB, {row['seconds']:6.1f} s, {rate:6.0f} images/s"
        )
    ratio = found[-1]["peak_mib"] / found[0]["peak_mib"]
    saved = f" saved as {options.save}" if options.save else ""
    print(f"{options.source}{saved}: ratio of peaks {ratio:.3f} (at most {LIMIT})")
    sys.exit(ratio > LIMIT)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument("--source", choices=["parquet", "folder", "npz"], default="parquet")
    parser.add_argument("--model", default=str(Path(__file__).resolve().parents[1] / "models" / "pgc_s_32x32.onnx"))
    parser.add_argument("--gates", type=int, default=2)
    parser.add_argument("--mode", default="zero")
    parser.add_argument("--save", default="", help="a file name whose ending is the format, such as out.csv")
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def draw(kind: str, folder: Path, count: int) -> Path:
    """Draw 64 different crops and write them again and again."""
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 256, (64, 32, 32, 3), np.uint8)
    encoded = []
    for crop in crops:
        stream = io.BytesIO()
        Image.fromarray(crop).save(stream, format="JPEG", quality=80)
        encoded.append(stream.getvalue())
    if kind == "folder":
        for index in range(count):
            path = folder / "images" / ("pointing", "not_pointing")[index % 2] / f"image{index:07d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded[index % 64])
        return folder / "images"
    if kind == "npz":
        np.savez(folder / "a.npz", images=crops[np.arange(count) % 64], labels=np.arange(count) % 2)
        return folder / "a.npz"
    import pyarrow as arrow
    from pyarrow import parquet

    schema = arrow.schema([("image_path", arrow.string()), ("image_bytes", arrow.binary()), ("label", arrow.string())])
    with parquet.ParquetWriter(folder / "a.parquet", schema) as writer:
        for start in range(0, count, 20_000):
            index = range(start, min(start + 20_000, count))
            columns = [[f"image{i}.jpg" for i in index], [encoded[i % 64] for i in index], [str(i % 2) for i in index]]
            writer.write_table(arrow.table(columns, schema=schema), row_group_size=20_000)
    return folder / "a.parquet"


def measure(options: argparse.Namespace, source: Path, folder: Path, count: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--count", str(count), "--path", str(source), "--source", options.source]
    command += ["--model", options.model, "--gates", str(options.gates), "--mode", options.mode]
    command += ["--out", str(folder / f"{count}{Path(options.save).suffix}")] if options.save else []
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def run_one(options: argparse.Namespace) -> dict[str, float]:
    from pgc_graph import modelio
    from pgc_graph.analysis.targets import TargetQuery, find_targets, select_targets
    from pgc_graph.sources import image_folder, npz_images, parquet_images
    from pgc_graph.studies.ablation import Intervention, Measure, Saving, ablate
    from pgc_graph.studies.ablation.measure import OwnLabels

    begin = time.monotonic()
    model = modelio.load(options.model)
    opening = {"folder": image_folder, "npz": npz_images, "parquet": parquet_images}[options.source]
    source = opening(options.path, limit=options.count)
    result = ablate(
        model,
        source,
        select_targets(find_targets(model), TargetQuery(limit=options.gates)),
        intervention=Intervention(options.mode),
        measure=Measure(labels=OwnLabels(source.labels())),
        saving=Saving(options.out) if options.out else None,
    )
    if result.image_count != options.count:
        raise SystemExit(f"scored {result.image_count} of {options.count} images")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"count": options.count, "peak_mib": peak, "seconds": time.monotonic() - begin}


if __name__ == "__main__":
    main()
