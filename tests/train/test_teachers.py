"""The base model as teacher: it predicts what diffusers does, and teaches nothing else."""

import dataclasses
import importlib
import json
import shutil

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from flax import nnx

from rbjax.data import loader
from rbjax.diffusion import schedule as schedule_lib
from rbjax.experiment import setup as setup_lib
from rbjax.models.params import nnx_state
from rbjax.train import checkpoints, loop, step, teachers
from rbjax.train import state as state_lib
from tests.helpers import stable_diffusion_folder, stable_diffusion_run, tiny_pipeline, tiny_run

SIZE = 18  # latents of 9 x 9
BASE = {"train.target": "base", "data.size": SIZE}
ALONE = {  # RetriNet is asked for what the base model is asked for
    "data.prompt_tags": "all",
    "data.drop_prompt": 0.0,
    "data.drop_references": 1.0,
    "data.drop_both": 0.0,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return stable_diffusion_folder.write(tmp_path_factory.mktemp("sd"))


@pytest.fixture(scope="module")
def experiment(folder, avatars_dir):
    return setup_lib.setup(
        setup_lib.resolve(stable_diffusion_run.sd15(folder, avatars_dir, **BASE))
    )


@pytest.fixture(scope="module")
def batch(experiment):
    examples = experiment.examples(experiment.open("train"), training=True)
    made = loader.iterator(examples, batch_size=3, seed=0, threads=1)
    return next(made)


def test_the_teacher_predicts_what_diffusers_does_for_all_tags(experiment, folder, batch):
    rng = np.random.default_rng(0)
    noisy = rng.normal(size=(3, 9, 9, 4)).astype(np.float32)
    timesteps = np.array([7, 400, 980], np.int32)
    with jax.set_mesh(experiment.mesh):
        state, _ = state_lib.create_state(experiment)
        student = tiny_pipeline.random_params(state.averaged, seed=1)  # nothing of it is read
        teacher = teachers.of(experiment.graphdef, student, teachers.load(experiment))
        found = teachers.predict(teacher, batch, jnp.asarray(noisy), jnp.asarray(timesteps))

    split = experiment.open("train")
    examples = experiment.examples(split)
    texts = [", ".join(examples.fitting(split.tags[int(i)])) for i in batch.index]
    words = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")
    ids = words(texts, padding="max_length", max_length=77, return_tensors="pt").input_ids
    np.testing.assert_array_equal(batch.all_tags, ids.numpy())
    text_encoder = transformers.CLIPTextModel.from_pretrained(folder / "text_encoder").float()
    unet = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet").float()
    with torch.no_grad():
        states = text_encoder(ids).last_hidden_state
        latents = torch.tensor(noisy).permute(0, 3, 1, 2)
        expected = unet(latents, torch.tensor(timesteps), states).sample.permute(0, 2, 3, 1)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


SPLIT = {"mesh.fsdp": 2, "train.accumulate": 2, "batch_size": 4}


@pytest.mark.parametrize("split", [{}, pytest.param(SPLIT, marks=pytest.mark.slow)])
def test_asked_for_the_same_retrinet_has_nothing_to_learn(folder, avatars_dir, split):
    """Also where its parameters, and the teacher's, are split, and the batch in parts."""
    alone = BASE | ALONE | split | {"eval.batch_size": 4}
    loss = stable_diffusion_run.two_updates(folder, avatars_dir, **alone)[-1]
    assert loss < 1e-10
    of_images = alone | {"train.target": "image"}
    assert stable_diffusion_run.two_updates(folder, avatars_dir, **of_images)[-1] > 0.1


def test_another_student_is_compared_with_the_teacher_not_with_itself(experiment, batch):
    key = jax.random.key(3)
    with jax.set_mesh(experiment.mesh):
        params = state_lib.create_state(experiment)[0].averaged
        loaded = teachers.load(experiment)
        student = tiny_pipeline.random_params(params, seed=1)
        pipeline = nnx.merge(experiment.graphdef, nnx_state(student))
        teacher = teachers.of(experiment.graphdef, student, loaded)
        settings = {"schedule": experiment.schedule, "weighting": "uniform"}
        found = step.example_losses(pipeline, batch, key, teacher=teacher, **settings)
        time_key, noise_key, sample_key = jax.random.split(key, 3)
        encoded = pipeline.encode(batch, sample_key)
        noise = jax.random.normal(noise_key, encoded.latents.shape)
        timesteps = jax.random.randint(time_key, (3,), 0, 1000, jnp.int32)
        noisy = schedule_lib.add_noise(
            experiment.schedule, encoded.latents, noise=noise, timesteps=timesteps
        )
        own = pipeline.predict(encoded, noisy, timesteps)
        wanted = teachers.predict(teacher, batch, noisy, timesteps)
    expected = np.square(np.asarray(own) - np.asarray(wanted)).mean((1, 2, 3))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert expected.min() > 1e-3


def test_a_resumed_run_has_the_same_teacher(folder, avatars_dir, tmp_path, monkeypatch, capsys):
    """Byte for byte, though the teacher is not in the checkpoint."""
    monkeypatch.setattr(loop, "Evaluator", tiny_run.NoEvaluation)
    settings = BASE | {"total_steps": 3, "checkpoint_every": 1, "log_every": 1}
    config = stable_diffusion_run.sd15(folder, avatars_dir, **settings)
    loop.train(config, tmp_path)

    def ended():
        with jax.set_mesh(setup_lib.setup(setup_lib.resolve(config)).mesh):
            averaged = checkpoints.load_model(tmp_path).params
        losses = json.loads((tmp_path / "loss.json").read_text())
        return losses, jax.tree.map(np.asarray, averaged)

    losses, params = ended()
    assert [number for number, _ in losses] == [1, 2, 3] and len({loss for _, loss in losses}) == 3
    shutil.rmtree(tmp_path / "checkpoints/3")
    loop.train(config, tmp_path)
    assert "Resuming at step 2." in capsys.readouterr().out
    again, params_again = ended()
    assert again == losses
    jax.tree.map(np.testing.assert_array_equal, params_again, params)


@pytest.mark.parametrize("change", [{"prediction_type": "v_prediction"}, {"betas": "linear"}])
def test_a_teacher_of_another_noise_is_refused(folder, avatars_dir, change):
    noise = {f"noise_schedule.{name}": value for name, value in change.items()}
    with pytest.raises(ValueError, match=rf"target='base'.*leave {next(iter(change))} empty"):
        setup_lib.resolve(stable_diffusion_run.sd15(folder, avatars_dir, **BASE | noise))


def test_a_teacher_whose_noise_is_not_known_is_refused(folder, avatars_dir, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "sd")
    shutil.rmtree(copy / "scheduler")
    with pytest.raises(ValueError, match="target='base'.*there is no .*scheduler_config.json"):
        setup_lib.resolve(stable_diffusion_run.sd15(copy, avatars_dir, **BASE))


def test_the_teacher_gets_no_gradient(experiment, batch):
    with jax.set_mesh(experiment.mesh):
        teacher = teachers.load(experiment)
        params = state_lib.create_state(experiment)[0].averaged
        noisy, timesteps = jnp.ones((3, 9, 9, 4)), jnp.array([7, 400, 980])

        def total(teacher):
            module = teachers.of(experiment.graphdef, params, teacher)
            return jnp.square(teachers.predict(module, batch, noisy, timesteps)).sum()

        value, grads = jax.value_and_grad(total)(teacher)
    assert value > 0
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(grads))


def test_without_a_base_model_there_is_no_teacher():
    config = importlib.import_module("configs.composition").from_scratch()
    config.train.target = "base"
    with pytest.raises(ValueError, match="config.train.target='base': config.pretrained is empty"):
        setup_lib.resolve(config)


def test_images_are_the_target_where_nothing_else_is_said(experiment):
    config = experiment.config.copy_and_resolve_references()
    with config.unlocked():
        config.train.target = "image"
    plain = dataclasses.replace(experiment, config=config)
    examples = plain.examples(plain.open("train"), training=True)
    assert next(loader.iterator(examples, batch_size=2, seed=0, threads=1)).all_tags is None
    assert teachers.load(plain) is None
    assert teachers.of(plain.graphdef, {}, None) is None
