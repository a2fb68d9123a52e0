"""RetriNet in PyTorch, on the blocks of diffusers' UNet: a port of rbjax/models/retrinet.py.

A retrieval encoder, a copy of the UNet's encoder, reads every reference with its concept word as
text. At each level a conjunction attends from the UNet encoder's map to the references' maps and
adds the result, through a 1x1 convolution, to that level's last skip connection.

Axes: B batch, R references, N references of a batch (1 or B), C channels, h w height and width of
a map, T tokens.
"""

import math

import torch
from diffusers import ConfigMixin, ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention_processor import Attention
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn
from torch.nn import functional

KeysValues = list[tuple[torch.Tensor, torch.Tensor]]  # of every level, [N, R*h*w, C]


class RetrievalEncoder(nn.Module):
    """The encoder half of a `UNet2DConditionModel`."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.time_proj = unet.time_proj
        self.time_embedding = unet.time_embedding
        self.conv_in = unet.conv_in
        self.down_blocks = unet.down_blocks


class Conjunction(nn.Module):
    """Attention from one level of the UNet's encoder to the references, then a convolution."""

    def __init__(self, channels: int, heads: int, groups: int, positions: bool) -> None:
        super().__init__()
        self.heads, self.positions = heads, positions
        self.norm_query = nn.GroupNorm(groups, channels, eps=1e-6)
        self.norm_reference = nn.GroupNorm(groups, channels, eps=1e-6)
        self.attn = Attention(channels, heads=heads, dim_head=channels // heads)
        self.zero_conv = nn.Conv2d(channels, channels, 1)

    def keys_values(self, maps: torch.Tensor, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps references' maps [N*R, C, h, w] to keys and values [N, R*h*w, C]."""
        tokens, placed = self._tokens(self.norm_reference(maps))
        key, value = self.attn.to_k(placed), self.attn.to_v(tokens)
        return key.reshape(batch, -1, key.shape[-1]), value.reshape(batch, -1, value.shape[-1])

    def forward(
        self, x: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Returns what to add to the skip connection x [B, C, h, w]: 0 without a reference.

        Args:
            x: [B, C, h, w].
            key: of `keys_values`, as `value`.
            value: [N, R*h*w, C].
            mask: bool [B, R], False where a reference is not to be seen.
        """
        _, placed = self._tokens(self.norm_query(x))
        some = mask.any(dim=1)  # [B]
        visible = mask | ~some[:, None]  # a softmax over nothing is not a number
        visible = visible.repeat_interleave(key.shape[1] // mask.shape[1], dim=1)[:, None, None]
        query, key, value = map(self._split_heads, (self.attn.to_q(placed), key, value))
        shape = (len(query), *key.shape[1:])
        out = functional.scaled_dot_product_attention(
            query, key.expand(shape), value.expand(shape), attn_mask=visible
        )
        project = self.attn.to_out[0]  # pyrefly: ignore[unsupported-operation]  never None
        out = project(out.transpose(1, 2).flatten(2))  # [B, h*w, C]
        out = self.zero_conv(out.transpose(1, 2).reshape(x.shape))
        return torch.where(some[:, None, None, None], out, 0)

    def _tokens(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns a map [B, C, h, w] as tokens [B, h*w, C], without and with positions."""
        _, channels, height, width = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        if not self.positions:
            return tokens, tokens
        return tokens, tokens + sine_positions(height, width, channels, x.device).to(x.dtype)

    def _split_heads(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T, C] -> [B, heads, T, C / heads]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class RetriNetModel(ModelMixin, ConfigMixin):
    """UNet, retrieval encoder and conjunctions."""

    _supports_gradient_checkpointing = True  # by diffusers' blocks

    @register_to_config
    def __init__(
        self, unet_config: dict, heads: int, positions: bool, reference_timestep: str
    ) -> None:
        """Builds the modules.

        Args:
            unet_config: the `UNet2DConditionModel`.
            heads: attention heads of every conjunction.
            positions: add fixed 2-D sine positions to queries and keys.
            reference_timestep: "target" encodes references with the target's time, "zero" with 0.
        """
        super().__init__()
        self.unet = UNet2DConditionModel(**unet_config)
        self.retrieval_encoder = RetrievalEncoder(UNet2DConditionModel(**unet_config))
        groups = unet_config["norm_num_groups"]
        self.conjunctions = nn.ModuleList(
            Conjunction(width, heads, groups, positions)
            for width in unet_config["block_out_channels"]
        )

    @apply_forward_hook  # loads the model where it is offloaded
    def encode_references(
        self, references: torch.Tensor, concepts: torch.Tensor, timesteps: torch.Tensor
    ) -> KeysValues:
        """Returns the keys and values of every level.

        Args:
            references: latents [N, R, C, h, w].
            concepts: text states of each reference's concept word, [N, R, T, D].
            timesteps: [N], of the target; unread where `reference_timestep` is "zero".
        """
        batch, count = references.shape[:2]
        times = timesteps.repeat_interleave(count)
        if self.config.reference_timestep == "zero":
            times = torch.zeros_like(times)
        _, maps = encode(
            self.retrieval_encoder, references.flatten(0, 1), times, concepts.flatten(0, 1)
        )
        last = self.unet.config.layers_per_block - 1
        levels = zip(self.conjunctions, maps[1:], strict=True)
        return [conjunction.keys_values(level[last], batch) for conjunction, level in levels]

    def forward(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        prompt: torch.Tensor,
        keys_values: KeysValues,
        mask: torch.Tensor,
    ) -> torch.Tensor:
        """Predicts noise, velocity or sample, as the scheduler says.

        Args:
            latents: noisy target, [B, C, h, w].
            timesteps: [B].
            prompt: text states, [B, T, D].
            keys_values: of `encode_references`; [] = no reference.
            mask: bool [B, R], False where a reference is not to be seen.
        """
        temb, maps = encode(self.unet, latents, timesteps, prompt)
        x = self.unet.mid_block(maps[-1][-1], temb, encoder_hidden_states=prompt)
        last = self.unet.config.layers_per_block - 1
        for level, conjunction, (key, value) in zip(
            maps[1:], self.conjunctions, keys_values, strict=False
        ):
            level[last] = level[last] + conjunction(level[last], key, value, mask)
        return decode(self.unet, x, temb, prompt, [m for level in maps for m in level])


def encode(
    net: UNet2DConditionModel | RetrievalEncoder,
    latents: torch.Tensor,
    timesteps: torch.Tensor,
    context: torch.Tensor,
) -> tuple[torch.Tensor, list[list[torch.Tensor]]]:
    """Returns the time embedding and the maps of each level; the first list holds conv_in's map."""
    temb = net.time_embedding(net.time_proj(timesteps).to(latents.dtype))
    maps = [[net.conv_in(latents)]]
    for block in net.down_blocks:
        text = {"encoder_hidden_states": context} if has_attention(block) else {}
        _, outputs = block(hidden_states=maps[-1][-1], temb=temb, **text)
        maps.append(list(outputs))
    return temb, maps


def decode(
    unet: UNet2DConditionModel,
    x: torch.Tensor,
    temb: torch.Tensor,
    context: torch.Tensor,
    skips: list[torch.Tensor],
) -> torch.Tensor:
    """Applies the UNet's decoder to the middle block's map `x` and the skip connections."""
    for block in unet.up_blocks:
        count = len(block.resnets)
        taken, skips = tuple(skips[-count:]), skips[:-count]
        text = {"encoder_hidden_states": context} if has_attention(block) else {}
        size = skips[-1].shape[2:] if skips else None
        x = block(x, temb=temb, res_hidden_states_tuple=taken, upsample_size=size, **text)
    return unet.conv_out(unet.conv_act(unet.conv_norm_out(x)))


def has_attention(block: nn.Module) -> bool:
    """Returns whether a block of the UNet reads text."""
    return bool(getattr(block, "has_cross_attention", False))


def sine_positions(
    height: int, width: int, channels: int, device: torch.device | None = None
) -> torch.Tensor:
    """Returns fixed 2-D sine positions on the unit square: [height * width, channels] float32."""
    count = channels // 4
    octaves = torch.arange(count, device=device) / max(count - 1, 1)
    frequencies = (math.pi / 2) * 16.0**octaves
    y, x = ((torch.arange(n, device=device) + 0.5) / n for n in (height, width))
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij"), -1).reshape(-1, 2)
    angles = (grid[:, :, None] * frequencies).reshape(height * width, -1)
    positions = torch.cat([angles.sin(), angles.cos()], -1)
    return functional.pad(positions, (0, channels - 4 * count))
