"""What stands beside the scores: the figures, and everything that is needed to get them again."""

from __future__ import annotations

import dataclasses

from pgc_graph.results import to_json
from pgc_graph.studies.ablation.result import AblationResult
from pgc_graph.studies.ablation.saving.identity import Identity

__all__ = ["summarise_run"]


def summarise_run(result: AblationResult, identity: Identity) -> str:
    """Write a result as a JSON document, without what the table says of single images.

    At the top are the model's SHA-256, the number of images, the options, the seed, and the versions of the libraries.
    """
    lean = dataclasses.replace(result, images=())
    return to_json(
        {"result": lean},
        model_sha256=identity.model,
        image_count=identity.images["count"],
        seed=result.intervention.seed,
        options=identity.options,
        versions=identity.versions,
    )
