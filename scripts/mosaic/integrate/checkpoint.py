"""Checkpoints: tensors on disk, without pickle, from which an interrupted run resumes."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import anndata as ad
import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mosaic.files import atomic_write
from mosaic.integrate.encoders import Encoder

logger = logging.getLogger(__name__)


def fingerprint(graph: ad.AnnData) -> str:
    """Hash of the spots, slices, features and edges of one modality's graph."""
    digest = hashlib.sha256(json.dumps([graph.obs_names.tolist(), graph.obs["slice"].astype(str).tolist()]).encode())
    arrays = {"X": graph.X}
    for name, matrix in graph.obsp.items():
        arrays |= {f"{name}.{part}": getattr(matrix, part) for part in ("data", "indices", "indptr")}
    _add_arrays(digest, arrays)
    return digest.hexdigest()


def _add_arrays(digest, arrays: Mapping[str, np.ndarray]) -> None:
    for name, array in sorted(arrays.items()):
        digest.update(json.dumps([name, str(array.dtype), array.shape]).encode())
        digest.update(np.ascontiguousarray(array))


class State:
    """The state of training between two epochs: weights, optimizer, random numbers and history."""

    def __init__(self, path: Path, identity: str, encoders: Mapping[str, Encoder], optimizer, generator):
        self.path, self.identity = path, identity
        self.encoders, self.optimizer, self.generator = encoders, optimizer, generator
        self.on_gpu = next(next(iter(encoders.values())).parameters()).is_cuda

    def write(self, history: Sequence[tuple]) -> None:
        """Write weights, optimiser, random states and the history so far."""
        tensors = weights_of(self.encoders)
        for number, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{key}": value for key, value in moments.items()}
        tensors |= {"random.batches": self.generator.get_state(), "random.cpu": torch.get_rng_state()}
        if self.on_gpu:
            tensors["random.gpu"] = torch.cuda.get_rng_state()
        write_tensors(tensors, {"identity": self.identity, "history": json.dumps(history)}, self.path)

    def resume(self) -> list[tuple]:
        """Restore the state and return the history; an empty history if there is no state to resume."""
        if not self.path.exists():
            return []
        try:
            tensors, metadata = read_tensors(self.path)
        except Exception as error:
            logger.warning("%s can't be read (%s): training starts from the beginning", self.path, error)
            return []
        if metadata.get("identity") != self.identity:
            logger.warning("%s has other data, settings or versions: training starts from the beginning", self.path)
            return []
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, number, name = key.split(".")
                moments.setdefault(int(number), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        for name, encoder in self.encoders.items():
            encoder.load_state_dict(of_modality(tensors, name))
        self.generator.set_state(tensors["random.batches"])
        torch.set_rng_state(tensors["random.cpu"])
        if self.on_gpu:
            torch.cuda.set_rng_state(tensors["random.gpu"])
        history = [tuple(row) for row in json.loads(metadata["history"])]
        logger.info("resuming after epoch %d, from %s", len(history), self.path, extra={"progress": True})
        return history


def weights_of(encoders: Mapping[str, Encoder]) -> dict[str, torch.Tensor]:
    """Parameters of all encoders, named ``weights.{modality}.{parameter}``."""
    return {
        f"weights.{name}.{parameter}": tensor
        for name, encoder in encoders.items()
        for parameter, tensor in encoder.state_dict().items()
    }


def of_modality(tensors: Mapping[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """Parameters of one encoder from those of ``weights_of``, as ``load_state_dict`` takes them."""
    prefix = f"weights.{name}."
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def write_tensors(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str], path: str | Path) -> None:
    """Write tensors as safetensors, with a checksum beside the metadata."""
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    with atomic_write(path) as unfinished:
        save_file(tensors, unfinished, metadata={**metadata, "checksum": checksum(tensors, metadata)})


def read_tensors(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read what ``write_tensors`` wrote; raises an exception of any kind if the file holds something else."""
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if metadata.pop("checksum") != checksum(tensors, metadata):
        raise ValueError("its checksum is not that of what it holds")
    return tensors, metadata


def checksum(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 of tensors and metadata."""
    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    _add_arrays(digest, {name: tensor.numpy() for name, tensor in tensors.items()})
    return digest.hexdigest()
