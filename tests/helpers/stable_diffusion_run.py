"""Two updates of the sd15 variant on a small folder and small pictures; needs no torch."""

import importlib
import pathlib

import jax
import ml_collections

from rbjax.data import loader
from rbjax.experiment import setup as setup_lib
from rbjax.parallel import mesh as mesh_lib
from rbjax.train import loop, teachers
from rbjax.train import state as state_lib

SMALL = {
    "data.dataset": "avatars/tiny",
    "data.size": 16,
    "data.bucket_reso_steps": 0,
    "data.shuffle_tags": False,  # so that prompts can be stored
    "data.drop_tags": 0.0,
    "data.threads": 1,
    "batch_size": 2,
    "mesh.data": 1,
    "total_steps": 2,
    "model.retrieval.heads": 2,
    "train.warmup_steps": 1,
    "train.learning_rate": 1e-2,
    "train.accumulate": 1,
    "model.unet.remat": False,
    "model.unet.dtype": "float32",
    "model.vae.dtype": "float32",
    "eval.batch_size": 2,
}


def sd15(folder, data_dir="", **changes) -> ml_collections.ConfigDict:
    """The configuration; not resolved."""
    config = importlib.import_module("configs.composition").get_config("sd15")
    folders = {"pretrained": str(folder), "data_dir": str(data_dir)}
    config.update_from_flattened_dict(SMALL | folders | changes)
    return config


def two_updates(folder: pathlib.Path, data_dir: pathlib.Path, **changes):
    """Returns (experiment, state before, state after, mean loss)."""
    exp = setup_lib.setup(setup_lib.resolve(sd15(folder, data_dir, **changes)))
    with jax.set_mesh(exp.mesh):
        state, _ = state_lib.create_state(exp)
        abstract = state_lib.abstract_state(exp)
        before = jax.device_get(state)
        data = loop._batches(exp, exp.open("train"), state)
        update, metrics = loop.jit_update(exp, abstract), loop._zero_metrics(exp)
        teacher = teachers.load(exp)
        for _ in range(2):
            batch = loader.place(next(data), mesh_lib.batch_sharding(exp.mesh))
            state, metrics = update(state, metrics, batch, teacher)
        return exp, before, jax.device_get(state), float(metrics.compute()["loss"])
