"""Stored moments and text states: equal to diffusers' and transformers', and to training live."""

import dataclasses
import functools
import pathlib
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import diffusers
import jax
import numpy as np
import pytest
import torch
import transformers
from flax import nnx
from safetensors.numpy import load_file, save_file

from rbjax.data import crops, latent_cache, loader
from rbjax.data.latent_cache import CachedLatents
from rbjax.experiment import setup as setup_lib
from rbjax.models import autoencoder_kl, clip_text
from rbjax.models import params as params_lib
from rbjax.models.params import nnx_state
from rbjax.text import prompts
from rbjax.text.concepts import CHARACTER, CLOTHES, CONCEPTS, FACE
from rbjax.train import encoding, precompute_latents
from rbjax.train import state as state_lib
from tests.helpers import (
    stable_diffusion_folder,
    stable_diffusion_run,
    tiny_run,
    train_process,
)

ROOT = pathlib.Path(__file__).parents[2]
SIZE = 18  # latents of 9 x 9
SETTINGS = {"data.size": SIZE, "data.drop_references": 0.2, "batch_size": 6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return stable_diffusion_folder.write(tmp_path_factory.mktemp("sd"))


@pytest.fixture(scope="module")
def data_dir(avatars_dir, tmp_path_factory):
    """A copy: what is stored in it is seen by these tests alone."""
    return shutil.copytree(avatars_dir, tmp_path_factory.mktemp("copy") / "data")


def options(folder, data_dir) -> list[str]:
    changes = {"dataset": "avatars/tiny", "size": SIZE, "threads": 1}
    changes |= {"shuffle_tags": False, "drop_tags": 0.0, "bucket_reso_steps": 0}
    flags = [f"--config.data.{name}={value}" for name, value in changes.items()]
    flags += [f"--config.pretrained={folder}", f"--config.data_dir={data_dir}"]
    flags += ["--config.model.vae.dtype=float32", "--config.mesh.data=2", "--batch_size=64"]
    return ["--config=configs/composition.py:sd15", *flags]


@pytest.fixture(scope="module")
def written(folder, data_dir) -> str:
    """What the command says that fills `data_dir`, on two devices."""
    command = [sys.executable, "scripts/cache_latents.py", *options(folder, data_dir)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def setup(folder, data_dir, **changes) -> setup_lib.Experiment:
    config = stable_diffusion_run.sd15(folder, data_dir, **SETTINGS | changes)
    return setup_lib.setup(setup_lib.resolve(config))


@pytest.fixture(scope="module")
def exp(folder, data_dir):
    return setup(folder, data_dir)


@pytest.fixture(scope="module")
def stored(written, exp):
    return precompute_latents.find(exp, exp.open("train"), {"retrinet"})


@pytest.fixture
def fresh(folder, avatars_dir, tmp_path):
    """(experiment, split) of a data set beside which nothing is stored."""
    fresh = setup(folder, shutil.copytree(avatars_dir, tmp_path / "data"))
    return fresh, fresh.open("train")


def test_moments_are_those_of_diffusers(stored, exp, folder):
    vae = diffusers.AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32)
    records = exp.open("train").records
    assert stored.moments.shape == (len(records), 3, SIZE // 2, SIZE // 2, 8)
    for index in (0, 101, len(records) - 1):  # the last is in a batch that was filled up
        views = [crops.crop_concept(records[index], c, size=SIZE, view="crop") for c in range(3)]
        pixels = torch.tensor(np.stack(views) / 127.5 - 1, dtype=torch.float32).permute(0, 3, 1, 2)
        with torch.no_grad():
            expected = vae.encode(pixels).latent_dist.parameters.permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(stored.moments[index], expected, rtol=1e-3, atol=2e-4)


def test_text_states_are_those_of_transformers(stored, exp, folder):
    model = transformers.CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    texts, split = stored.texts, exp.open("train")
    examples = exp.examples(split)
    ids = np.stack([examples.prompt_ids(tags) for tags in ([], split.tags[0], split.tags[7])])
    words = prompts.encode(exp.tokenizer, CONCEPTS, texts.concepts.shape[1])
    with torch.no_grad():
        states, concepts = (model(torch.tensor(i)).last_hidden_state for i in (ids, words))
    found = np.stack([texts[row] for row in ids])
    np.testing.assert_allclose(found, states, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(texts.concepts, concepts, rtol=1e-3, atol=1e-3)
    assert len(np.unique(texts.ids, axis=0)) == len(texts.ids)


def test_a_batch_means_the_same_to_the_pipeline(stored, exp):
    split = exp.open("train")
    live, cached = (
        next(loader.iterator(examples, batch_size=48, seed=3, threads=1))
        for examples in (exp.examples(split), exp.examples(split, stored))
    )
    for name in ("index", "reference_mask"):
        np.testing.assert_array_equal(getattr(cached, name), getattr(live, name))
    for name in ("target", "references", "prompt", "concepts"):
        assert getattr(cached, name).dtype == np.float16 != getattr(live, name).dtype
    mask = live.reference_mask
    assert (~mask.any(1)).any() and mask.all(1).any()
    with jax.set_mesh(exp.mesh):
        state, _ = state_lib.create_state(exp)
        params = params_lib.merge(state.trained, state.frozen)
        pipeline = nnx.merge(exp.graphdef, nnx_state(params))
        key = jax.random.key(5)
        encode = jax.jit(lambda batch: pipeline.encode(batch, key))
        encoded = [jax.tree.map(np.asarray, encode(batch)) for batch in (live, cached)]
        for name in ("latents", "references", "prompt", "concepts"):
            wanted, found = (getattr(batch, name) for batch in encoded)
            visible = mask if name == "references" else ...
            assert found.shape == wanted.shape and found.dtype == wanted.dtype
            np.testing.assert_allclose(found[visible], wanted[visible], rtol=1e-3, atol=2e-3)


def test_changes_fixed_by_record_are_stored_at_the_start_of_a_training(fresh, folder, tmp_path):
    changes = {"data.crop_jitter": 0.2, "data.flip_references": 0.5, "data.fixed_changes": True}
    exp = setup(folder, tmp_path / "data", **changes, **{"data.store_latents": True})
    split = exp.open("train")
    stored = precompute_latents.find(exp, split, {"retrinet"})
    plain, changed = (exp.examples(split, training=training).crops for training in (False, True))
    index = int(split.clusters_with_clothes.order[0])
    np.testing.assert_array_equal(plain[index, CHARACTER], changed[index, CHARACTER])
    for concept in (FACE, CLOTHES):
        crop = changed[index, concept]
        assert (plain[index, concept] != crop).any()
        np.testing.assert_array_equal(crop, changed[index, concept])
    found = np.stack([changed[index, concept] for concept in range(len(CONCEPTS))])
    with jax.set_mesh(exp.mesh):
        state, _ = state_lib.create_state(exp)
        pipeline = nnx.merge(exp.graphdef, nnx_state(params_lib.merge(state.trained, state.frozen)))
        moments = nnx.jit(encoding.moments)(pipeline.autoencoder, found)
    np.testing.assert_allclose(stored.moments[index], moments, rtol=1e-3, atol=2e-3)
    other = setup(folder, tmp_path / "data", **changes | {"data.crop_jitter": 0.1})
    assert precompute_latents.find(other, split, {"retrinet"}).moments is None


def test_targets_in_buckets_are_stored_in_their_shapes(fresh, monkeypatch, capsys):
    exp, split = fresh
    shapes = np.array([(16, 24), (24, 16), (SIZE, SIZE)])[np.arange(len(split)) % 7 % 3]
    monkeypatch.setattr(setup_lib.Experiment, "target_shapes", lambda self, split: shapes)
    precompute_latents.store(exp, split, parts=["moments"], batch_size=32)
    stored = precompute_latents.find(exp, split, {"retrinet"})
    with jax.set_mesh(exp.mesh):
        state, _ = state_lib.create_state(exp)
        pipeline = nnx.merge(exp.graphdef, nnx_state(params_lib.merge(state.trained, state.frozen)))
        encode = nnx.jit(encoding.moments)
        live, cached = (exp.examples(split, c) for c in (None, stored))
        for index in (1, 7, len(split) - 1):  # of three shapes
            moments = encode(pipeline.autoencoder, live.crops.target(index)[None])[0]
            np.testing.assert_allclose(stored.targets[index], moments, rtol=1e-3, atol=2e-3)
    pair = [loader.iterator(e, batch_size=6, seed=3, threads=1) for e in (live, cached)]
    seen = set()
    for _, (one, other) in zip(range(8), zip(*pair, strict=True), strict=False):
        np.testing.assert_array_equal(one.index, other.index)
        assert other.target.shape[1:] == (one.target.shape[1] // 2, one.target.shape[2] // 2, 8)
        expected = np.stack([stored.targets[i] for i in other.index])
        np.testing.assert_array_equal(other.target, expected)
        assert other.references.dtype == np.float16
        seen.add(one.target.shape)
    assert len(seen) == 3
    monkeypatch.setattr(setup_lib.Experiment, "target_shapes", lambda self, split: shapes[::-1])
    capsys.readouterr()
    assert precompute_latents.find(exp, split, {"retrinet"}) == CachedLatents()
    assert re.search(
        r"Stored moments: not used, .*: targets \w+ there, \w+ now", capsys.readouterr().out
    )


def test_updates_are_those_without_the_store(written, folder, data_dir, tmp_path, monkeypatch):
    copy = shutil.copytree(data_dir, tmp_path / "data")

    def run(use):
        return stable_diffusion_run.two_updates(folder, copy, **{"data.cached_latents": use})

    exp, before, live, loss = run(False)
    precompute_latents.store(exp, exp.open("train"), parts=["moments"], batch_size=32)
    for encoder in (autoencoder_kl.Encoder, clip_text.CLIPTextModel):  # neither is needed any more
        monkeypatch.setattr(encoder, "__call__", None)
    _, start, cached, cached_loss = run(True)
    jax.tree.map(np.testing.assert_array_equal, start, before)
    jax.tree.map(np.testing.assert_array_equal, cached.frozen, live.frozen)
    assert cached_loss == pytest.approx(loss, rel=1e-5)
    moments = [jax.tree.leaves(state.opt_state[1][0].mu) for state in (cached, live)]
    for found, wanted in zip(*moments, strict=True):
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-3 * scale)


def other_weights(folder: pathlib.Path, copy: pathlib.Path) -> pathlib.Path:
    """The folder with one weight of the autoencoder changed."""
    shutil.copytree(folder, copy)
    (path,) = (copy / "vae").glob("*.safetensors")
    tensors = load_file(path)
    tensors["encoder.conv_in.bias"][0] += 1
    save_file(tensors, path, metadata={"format": "pt"})
    return copy


def test_what_does_not_fit_is_named_and_not_read(written, folder, data_dir, tmp_path, capsys):
    changed = other_weights(folder, tmp_path / "sd")
    cases = [(changed, {}, "weights"), (folder, {"data.size": 20}, "size 18 there, 20 now")]
    for pretrained, changes, words in cases:
        exp = setup(pretrained, data_dir, **changes)
        found = precompute_latents.find(exp, exp.open("train"), ())
        moments, text = capsys.readouterr().out.splitlines()[-2:]
        assert found.moments is None and found.texts is not None
        assert moments.startswith("Stored moments: not used, moments-train-18-crop-")
        assert words in moments and moments.count(" there, ") == 1
        assert "python scripts/cache_latents.py" in moments
        assert text.startswith("Stored text: read from text-train-77-")


@pytest.mark.parametrize(
    "changes, field",
    [
        ({"model.vae.dtype": "bfloat16"}, "dtype float32 there, bfloat16 now"),
        ({"data.view": "in_place"}, "view crop there, in_place now"),
        ({"data.prompt_tags": "all"}, "prompt_tags free there, all now"),
        ({"data.max_tokens": 40}, "max_tokens 77 there, 40 now"),
    ],
)
def test_every_setting_that_matters_is_compared(written, exp, folder, data_dir, changes, field):
    config = exp.config.copy_and_resolve_references()
    config.update_from_flattened_dict(changes)
    other, split = dataclasses.replace(exp, config=config), exp.open("train")
    reasons = [
        latent_cache.mismatch(split.directory, precompute_latents.fingerprint(other, split, part))
        for part in latent_cache.PARTS
    ]
    assert sum(field in reason for reason in reasons) == 1 and "" in reasons


def test_the_switch_and_trained_encoders_keep_the_store_closed(written, folder, data_dir, capsys):
    off = setup(folder, data_dir, **{"data.cached_latents": False})
    assert precompute_latents.find(off, off.open("train"), ()) == CachedLatents()
    assert "Stored" not in capsys.readouterr().out
    on = setup(folder, data_dir)
    found = precompute_latents.find(on, on.open("train"), {"retrinet", "text_encoder"})
    assert found.texts is None and found.moments is not None
    assert "config.train.trained includes parameters of text_encoder" in capsys.readouterr().out


def test_the_command_says_what_it_wrote_and_writes_once(written, exp, capsys):
    assert written.count("wrote ") == 2
    split = exp.open("train")
    stamps = {path: path.stat().st_mtime_ns for path in split.directory.glob("*-train-*/*")}
    precompute_latents.store(exp, split, parts=latent_cache.PARTS, batch_size=2)
    assert capsys.readouterr().out.count("is there already") == 2
    assert stamps == {path: path.stat().st_mtime_ns for path in split.directory.glob("*-train-*/*")}


def test_an_interrupted_run_leaves_nothing_to_read(fresh, stored, monkeypatch, capsys):
    exp, split = fresh
    encode_rows = encoding.encode_rows

    def interrupted(*args, **kwargs):
        yield next(encode_rows(*args, **kwargs))
        raise KeyboardInterrupt

    monkeypatch.setattr(encoding, "encode_rows", interrupted)
    for part in latent_cache.PARTS:
        with pytest.raises(KeyboardInterrupt):
            precompute_latents.store(exp, split, parts=[part], batch_size=32)
    assert precompute_latents.find(exp, split, ()) == CachedLatents()
    assert capsys.readouterr().out.count("not used, none is stored") == 2
    monkeypatch.setattr(encoding, "encode_rows", encode_rows)
    precompute_latents.store(exp, split, parts=["moments"], batch_size=32)
    again = precompute_latents.find(exp, split, ()).moments
    np.testing.assert_allclose(again, stored.moments, rtol=1e-3, atol=1e-3)
    assert not list(split.directory.glob("moments-*.partial"))


def test_of_two_runs_at_once_one_stores_and_the_other_reads(fresh, monkeypatch, capsys):
    exp, split = fresh
    encode_rows, other = encoding.encode_rows, ThreadPoolExecutor()
    second = []

    def slow(*args, **kwargs):
        if not second:
            store = functools.partial(precompute_latents.store, exp, split, parts=["moments"])
            second.append(other.submit(store, batch_size=32))
            with pytest.raises(TimeoutError):
                second[0].result(timeout=1)
        return encode_rows(*args, **kwargs)

    monkeypatch.setattr(encoding, "encode_rows", slow)
    precompute_latents.store(exp, split, parts=["moments"], batch_size=32)
    second[0].result(timeout=60)
    said = capsys.readouterr().out
    assert said.count("waiting for it") == 1 and said.count("wrote ") == 1
    assert len(list(split.directory.glob("*moments-*"))) == 1


def test_face_and_clothes_without_a_box_are_not_encoded(fresh, stored):
    exp, split = fresh
    boxed = np.arange(len(split)) % 3 > 0
    for name in ("clusters_with_box", "clusters_with_clothes"):
        vars(split)[name] = split.clusters.restricted(boxed)
    precompute_latents.store(exp, split, parts=["moments"], batch_size=32)
    moments = precompute_latents.find(exp, split, ()).moments
    assert not moments[~boxed][:, :CHARACTER].any()
    kept = moments[boxed][:, FACE], moments[:, CHARACTER]
    wanted = stored.moments[boxed][:, FACE], stored.moments[:, CHARACTER]
    for a, b in zip(kept, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


def test_a_full_disk_is_said_before_writing(fresh, monkeypatch):
    exp, split = fresh
    usage = shutil.disk_usage(split.directory)._replace(free=1000)
    monkeypatch.setattr(latent_cache.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match="moments-train-18-crop-.* needs .* are free"):
        precompute_latents.store(exp, split, parts=["moments"], batch_size=32)
    assert not list(split.directory.glob("moments-*"))


def test_encoders_that_train_are_not_stored(fresh):
    exp, split = fresh
    config = exp.config.copy_and_resolve_references()
    config.train.trained = (*config.train.trained, "text_encoder/")
    config.train.frozen = tuple(p for p in config.train.frozen if p != "text_encoder/")
    exp = dataclasses.replace(exp, config=config)
    with pytest.raises(ValueError, match="text cannot be stored: .*parameters of text_encoder"):
        precompute_latents.store(exp, split, parts=["text"], batch_size=2)
    config.train.trained = (*config.train.trained, "autoencoder/quant_conv/")
    config.train.frozen = ("autoencoder/(?!quant_conv/)", *config.train.frozen[1:])
    with pytest.raises(ValueError, match="moments cannot be stored: .*parameters of autoencoder"):
        precompute_latents.store(exp, split, parts=["moments"], batch_size=2)


@pytest.mark.parametrize("change", [{"shuffle_tags": True}, {"drop_tags": 0.1}])
def test_prompts_that_vary_are_not_stored_but_moments_are(fresh, change, capsys):
    exp, split = fresh
    config = exp.config.copy_and_resolve_references()
    config.data.update(change)
    exp = dataclasses.replace(exp, config=config)
    with pytest.raises(ValueError, match="text cannot be stored: .*make new prompts"):
        precompute_latents.store(exp, split, parts=["text"], batch_size=2)
    assert precompute_latents._why_not_constant(exp, "moments", ()) == ""


def test_a_model_without_pretrained_encoders_has_nothing_to_store(avatars_dir):
    exp = setup_lib.setup(setup_lib.resolve(tiny_run.config(avatars_dir)))
    with pytest.raises(ValueError, match="moments cannot be stored: config.pretrained is empty"):
        precompute_latents.store(exp, exp.open("train"), parts=["moments"], batch_size=8)


def test_damaged_files_are_named_and_can_be_stored_again(written, exp, data_dir, capsys):
    split = exp.open("train")
    (folder,) = latent_cache.folders(split.directory, "moments")
    array, marks = folder / "moments.npy", folder / "fingerprint.json"
    whole, fingerprint = array.read_bytes(), marks.read_text()
    array.write_bytes(whole[:-8])
    with pytest.raises(ValueError, match=f"{folder} is damaged .*remove it"):
        precompute_latents.find(exp, split, {"retrinet"})
    marks.write_text(fingerprint[:9])
    assert precompute_latents.find(exp, split, {"retrinet"}).moments is None
    precompute_latents.store(exp, split, parts=["moments"], batch_size=64)
    assert array.read_bytes() == whole and marks.read_text() == fingerprint


def test_two_processes_write_what_one_writes(written, folder, avatars_dir, data_dir, tmp_path):
    other = shutil.copytree(avatars_dir, tmp_path / "data")
    command = ["scripts.cache_latents", *options(folder, other)]
    command += [f"--coordinator=localhost:{train_process.free_port()}", "--num_processes=2"]
    found = train_process.run([[*command, f"--process_id={i}"] for i in range(2)], devices=1)
    assert not any(p.returncode for p in found), "\n".join(p.stdout for p in found)
    assert [p.stdout.count("wrote ") for p in found] == [2, 0]
    for path in data_dir.rglob("*.npy"):
        if path.parent.name.startswith(("moments-", "text-")):
            theirs = np.load(other / path.relative_to(data_dir))
            np.testing.assert_array_equal(theirs, np.load(path))
    assert sorted(p.name for p in other.rglob("text-*/*")) == [
        *("concepts.npy", "fingerprint.json", "ids.npy", "states.npy"),
    ]
