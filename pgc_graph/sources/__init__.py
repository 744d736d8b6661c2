"""Where images come from: folders, lists, Parquet and .npz files, each read from any position and as often as needed."""

from __future__ import annotations

from pgc_graph.sources.batches import read_ahead
from pgc_graph.sources.files import FileImages, image_folder, image_list
from pgc_graph.sources.npz import NpzImages, npz_images
from pgc_graph.sources.parquet import ParquetImages, parquet_images, parquet_rows
from pgc_graph.sources.parquet_writer import ParquetRow, ParquetWriter, write_parquet
from pgc_graph.sources.source import Entry, ImageSource, first_image, to_picture, to_row

__all__ = [
    "Entry",
    "FileImages",
    "ImageSource",
    "NpzImages",
    "ParquetImages",
    "ParquetRow",
    "ParquetWriter",
    "first_image",
    "image_folder",
    "image_list",
    "npz_images",
    "parquet_images",
    "parquet_rows",
    "read_ahead",
    "to_picture",
    "to_row",
    "write_parquet",
]
