"""Trains a small KL autoencoder from scratch: the first part of the base model that ships.

Stable Diffusion's was trained with a perceptual and an adversarial loss on photographs (Rombach et
al., arXiv 2112.10752). Drawings have flat colours and sharp edges: here (ours) the absolute and the
squared error of the pixels and the absolute error of their differences, which is that of the edges,
beside a small KL term. There are three parts. Windows of the images come first, those with the
most edges: most of a drawing is flat, and what is hard, a face's eyes and mouth, is a small share.
Then entire images, as their statistics are what the group norms will meet. Then the decoder trains
on alone, on latents that are a little wrong, as generated ones are: latents stay what they are, so
a diffusion model of them does too (the weights `sd-vae-ft-mse` of Stable Diffusion are a decoder
that was trained on like this).
"""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from rbjax.data.dataset import Split
from rbjax.data.image_cache import ConceptCrops
from rbjax.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from rbjax.models.params import Tree, nnx_state
from rbjax.models.pixels import to_float
from rbjax.parallel import rules
from rbjax.text.concepts import CHARACTER, CLOTHES, FACE
from rbjax.train import checkpoints
from rbjax.train.state import TrainState
from rbjax.train.step import apply_gradients

EMA_DECAY = 0.999
SHOWN = (CHARACTER, CHARACTER, FACE, CLOTHES)  # half entire images, half what references show
CANDIDATES = 4  # windows of an image, of which the one with the most edges is taken
MEASURED = 2048  # images whose latents give the scaling factor
Update = Callable[[TrainState, jax.Array], tuple[TrainState, dict[str, jax.Array]]]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Of a training.

    Attributes:
        model: sizes of the autoencoder; its scaling factor is measured at the end.
        window: side of the windows of images that the first part trains on, in pixels.
        window_steps: updates of the first part, on windows.
        window_batch: windows of an update.
        steps: updates of the second part, on entire images.
        decoder_steps: updates of the third part, of the decoder alone, on entire images.
        latent_noise: largest standard deviation of what is added to the latents in these, as a
            share of theirs.
        batch_size: images of an update.
        learning_rate: peak of the first part's; each part has a cosine of its own.
        final_rate: peak of the others'.
        kl_weight: of the sum of the KL divergence over an image's latents.
        seed: of initialisation, order and samples.
        log_every: updates between lines of the log.
        checkpoint_every: updates between checkpoints.
    """

    model: AutoencoderKLConfig
    window: int
    window_steps: int
    window_batch: int
    steps: int
    decoder_steps: int
    batch_size: int
    learning_rate: float
    final_rate: float
    kl_weight: float
    latent_noise: float = 0.15
    seed: int = 0
    log_every: int = 100
    checkpoint_every: int = 500


def loss(
    autoencoder: AutoencoderKL, images: jax.Array, key: jax.Array, *, kl_weight: float
) -> jax.Array:
    """Returns the mean loss of images in [-1, 1], float32 [B, H, W, 3]: a scalar."""
    mean, log_variance = autoencoder.moments(images)
    error = autoencoder.decode(autoencoder.sample(mean, log_variance, key)) - images
    divergence = 0.5 * (mean**2 + jnp.exp(log_variance) - 1 - log_variance)
    kl = divergence.sum(axis=(1, 2, 3)).mean()
    return _reconstruction_loss(error) + kl_weight * kl


def decoder_loss(
    autoencoder: AutoencoderKL, images: jax.Array, key: jax.Array, *, noise: float
) -> jax.Array:
    """Returns the mean loss of images in [-1, 1], [B, H, W, 3], which only the decoder can lower.

    Args:
        autoencoder: with a scaling factor of 1.
        images: to reconstruct.
        key: of chance.
        noise: largest standard deviation of what is added to an image's latents, as a share of
            that of all latents.
    """
    mean = jax.lax.stop_gradient(autoencoder.moments(images)[0])
    share, normal = jax.random.split(key)
    scale = noise * jax.random.uniform(share, (len(mean), 1, 1, 1)) * mean.std()
    latents = mean + scale * jax.random.normal(normal, mean.shape)
    return _reconstruction_loss(autoencoder.decode(latents) - images)


def _reconstruction_loss(error: jax.Array) -> jax.Array:
    edges = sum(jnp.abs(jnp.diff(error, axis=axis)).mean() for axis in (1, 2))
    return jnp.abs(error).mean() + 0.5 * edges + jnp.square(error).mean()


def train(
    settings: Settings, split: Split, *, size: int, workdir: pathlib.Path, mesh: jax.sharding.Mesh
) -> AutoencoderKL:
    """Trains on the images of a split; goes on from the newest checkpoints of the directory.

    Args:
        settings: of the training.
        split: of a data set.
        size: of the square images, in pixels.
        workdir: receives checkpoints.
        mesh: of the devices.

    Returns:
        The autoencoder with averaged parameters and its scaling factor.
    """
    crops = ConceptCrops(split, size=size, view="crop", cache=True)
    run = functools.partial(_run, crops=crops, mesh=mesh)
    windows = dataclasses.replace(
        settings, steps=settings.window_steps, batch_size=settings.window_batch
    )
    entire = dataclasses.replace(
        settings, window=0, learning_rate=settings.final_rate, seed=settings.seed + 1
    )
    decoder = dataclasses.replace(entire, steps=settings.decoder_steps, seed=settings.seed + 2)
    params = run(windows, None, workdir=workdir / "windows")
    params = run(entire, params, workdir=workdir / "entire")
    if settings.decoder_steps:
        params = run(decoder, params, workdir=workdir / "decoder", is_decoder=True)
    return _finish(settings, params, crops)


def _run(
    settings: Settings,
    params: Tree | None,
    *,
    crops: ConceptCrops,
    workdir: pathlib.Path,
    mesh: jax.sharding.Mesh,
    is_decoder: bool = False,
) -> Tree:
    """Returns the averaged parameters after `settings.steps` updates of one part.

    Args:
        settings: of the part; `window` 0 takes entire images.
        params: to start from; None: random ones.
        crops: the images.
        workdir: receives checkpoints.
        mesh: of the devices.
        is_decoder: only the decoder changes.
    """
    data = _batches(crops, settings)
    tx = _optimizer(settings)
    init = functools.partial(_init, settings, tx, params)
    shardings = rules.shardings(jax.eval_shape(init), mesh)
    abstract = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        jax.eval_shape(init),
        shardings,
    )
    state = checkpoints.restore(workdir, abstract=abstract, data=data)
    state = state or jax.jit(init, out_shardings=shardings)()
    update = jax.jit(_make_update(settings, tx, is_decoder=is_decoder), donate_argnums=0)
    start, began = int(state.step), time.monotonic()
    for step in range(start + 1, settings.steps + 1):
        state, metrics = update(state, jnp.asarray(next(data)))
        if step % settings.log_every == 0:
            rate = (step - start) / (time.monotonic() - began)
            values = " ".join(f"{name} {float(value):.4f}" for name, value in metrics.items())
            print(f"step {step}/{settings.steps} {values} {rate:.2f} steps/s", flush=True)
        if step % settings.checkpoint_every == 0 or step == settings.steps:
            checkpoints.save(workdir, step, state=state, data=data)
    return state.ema


def psnr(autoencoder: AutoencoderKL, images: np.ndarray, batch_size: int = 32) -> float:
    """Returns the mean PSNR in dB of the reconstructions of images, uint8 [N, H, W, 3]."""

    @nnx.jit
    def errors(autoencoder: AutoencoderKL, images: jax.Array) -> jax.Array:
        images = to_float(images)
        decoded = jnp.clip(autoencoder.decode(autoencoder.encode(images)), -1, 1)
        return jnp.square((decoded - images) / 2).mean(axis=(1, 2, 3))

    starts = range(0, len(images), batch_size)
    found = [
        np.asarray(errors(autoencoder, jnp.asarray(images[i : i + batch_size]))) for i in starts
    ]
    return float(np.mean(-10 * np.log10(np.concatenate(found))))


def window(image: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Returns the one with the most edges of a few random windows of an image, [side, side, 3]."""
    tops, lefts = rng.integers(0, np.array(image.shape[:2]) - side + 1, (CANDIDATES, 2)).T
    found = [image[y : y + side, x : x + side] for y, x in zip(tops, lefts, strict=True)]
    return max(found, key=_edges)


def _edges(image: np.ndarray) -> float:
    values = image.astype(np.int16)
    return float(sum(np.abs(np.diff(values, axis=axis)).mean() for axis in (0, 1)))


def _batches(crops: ConceptCrops, settings: Settings) -> grain.DatasetIterator:
    positions = grain.MapDataset.range(len(crops.split)).seed(settings.seed).shuffle().repeat()

    def draw(position: int, rng: np.random.Generator) -> np.ndarray:
        image = crops[position, int(rng.choice(SHOWN))]
        return window(image, settings.window, rng) if settings.window else image

    images = positions.random_map(draw)
    return iter(images.to_iter_dataset().batch(settings.batch_size, drop_remainder=True))


def _optimizer(settings: Settings) -> optax.GradientTransformation:
    rate = optax.warmup_cosine_decay_schedule(
        0.0,
        settings.learning_rate,
        warmup_steps=min(100, settings.steps // 2),
        decay_steps=settings.steps,
        end_value=0.02 * settings.learning_rate,
    )
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate, b2=0.99))


def _init(settings: Settings, tx: optax.GradientTransformation, params: Tree | None) -> TrainState:
    if params is None:
        autoencoder = AutoencoderKL(settings.model, nnx.Rngs(settings.seed))
        params = nnx.to_pure_dict(nnx.state(autoencoder, nnx.Param))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        trained=params,
        frozen={},
        ema=jax.tree.map(jnp.copy, params),
        opt_state=tx.init(params),
    )


def _make_update(
    settings: Settings, tx: optax.GradientTransformation, *, is_decoder: bool
) -> Update:
    """Returns update(state, images uint8 [B, H, W, 3]) -> (state, metrics)."""
    model = dataclasses.replace(settings.model, scaling_factor=1.0)
    graphdef = nnx.split(nnx.eval_shape(lambda: AutoencoderKL(model, nnx.Rngs(0))))[0]
    key = jax.random.key(settings.seed)
    loss_of_images = (
        functools.partial(decoder_loss, noise=settings.latent_noise)
        if is_decoder
        else functools.partial(loss, kl_weight=settings.kl_weight)
    )

    def update(state: TrainState, images: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
        def loss_of(params: Tree) -> jax.Array:
            autoencoder = nnx.merge(graphdef, nnx_state(params))
            step_key = jax.random.fold_in(key, state.step)
            return loss_of_images(autoencoder, to_float(images), step_key)

        value, grads = jax.value_and_grad(loss_of)(state.trained)
        new = apply_gradients(tx, state, grads, ema_decay=EMA_DECAY)
        return dataclasses.replace(new, step=state.step + 1), {
            "loss": value,
            "gradient": optax.tree.norm(grads),
        }

    return update


def _finish(settings: Settings, params: Tree, crops: ConceptCrops) -> AutoencoderKL:
    """Returns the autoencoder with the scaling factor that gives its latents unit variance."""
    unscaled = dataclasses.replace(settings.model, scaling_factor=1.0)
    positions = np.linspace(0, len(crops.split) - 1, MEASURED).astype(int)
    encode = nnx.jit(lambda model, images: model.encode(to_float(images)))
    model = _build(unscaled, params)
    latents = [
        np.asarray(encode(model, np.stack([crops[int(i), CHARACTER] for i in part])))
        for part in np.split(positions, MEASURED // 32)
    ]
    factor = float(1 / np.concatenate(latents).std())
    return _build(dataclasses.replace(unscaled, scaling_factor=round(factor, 5)), params)


def _build(config: AutoencoderKLConfig, params: Tree) -> AutoencoderKL:
    graphdef = nnx.split(nnx.eval_shape(lambda: AutoencoderKL(config, nnx.Rngs(0))))[0]
    return nnx.merge(graphdef, nnx_state(params))
