"""`most_similar`: the videos of an embedding file whose vectors are nearest, by exact search."""

import torch
from torch import Tensor

from videossp.embedding.embeddings import Embeddings

BLOCK = 1024  # rows of a block of a similarity matrix


def most_similar(query: Tensor, embeddings: Embeddings, top: int = 10) -> list[tuple[str, float]]:
    """(path, cosine similarity) of the videos nearest to a vector, the nearest first.

    Args:
        query: (width,).
        embeddings: of the same model.
        top: most videos.
    """
    similarity = embeddings.normalised() @ torch.nn.functional.normalize(query, dim=0)
    values, places = similarity.topk(min(top, len(embeddings)))
    return [(embeddings.paths[i], value) for i, value in zip(places.tolist(), values.tolist(), strict=True)]


def nearest(queries: Tensor, others: Tensor, count: int, *, same: bool = False) -> tuple[Tensor, Tensor]:
    """(similarities, rows of `others`), each (queries, count), of the rows nearest to each query.

    The similarity matrix is computed in blocks of rows, so memory stays small.

    Args:
        queries: (queries, width) of length 1.
        others: (others, width) of length 1.
        count: at most the number of others, less one with `same`.
        same: both are the same vectors; a row is no neighbour of itself.
    """
    values, places = [], []
    for first in range(0, len(queries), BLOCK):
        block = queries[first : first + BLOCK] @ others.T
        if same:
            rows = torch.arange(len(block))
            block[rows, first + rows] = -torch.inf
        found = block.topk(count)
        values.append(found.values)
        places.append(found.indices)
    if not values:
        return torch.zeros(0, count), torch.zeros(0, count, dtype=torch.long)
    return torch.cat(values), torch.cat(places)
