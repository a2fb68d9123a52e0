"""The paper's ablations: one change to composition.py:sd15 (or to another of its variants).

Run:  python -m rbjax.main --config configs/ablations.py:CHANGE --config.pretrained=DIR
      python -m rbjax.main --config configs/ablations.py:avatars,CHANGE
      python scripts/run_ablations.py --base avatars --changes CHANGE ... --out runs/ablations
                                                        (each with several seeds, and a table)

Changes:
  train_decoder     SD's decoder trains, its encoder and middle block do not (as in sd15)
  train_all         the encoder and middle block of SD train as well
  train_encoder     the encoder and middle block of SD train, its decoder does not
  train_references  all of SD is frozen: retrieval encoder and conjunctions train
  drop_prompt_0 | drop_prompt_10 | drop_prompt_50 | drop_prompt_90   percent of all examples without
                    prompt; 10 % of these and of the others have no references (90: 9 % have both)
  time_target | time_zero   references are encoded at the target's time, or at time 0
  references_1 | references_2 | references_4   references of an example, faces first
  same_image | other_image   entire references: the target itself, or other images of the character
  view_crop | view_in_place   a reference's concept is enlarged, or left at its place
  target_image | target_base   the target is the image, or what the base model predicts (ours)
"""

from ml_collections import ConfigDict

from configs import composition

FROM_SD = r"retrinet/unet/"
ENCODER = r"retrinet/unet/(conv_in|time_embedding|down_blocks|mid_block)/"
DECODER = r"retrinet/unet/(up_blocks|conv_norm_out|conv_out)/"
ADDED = (r"retrinet/retrieval_encoder/", r"retrinet/conjunctions/")
OTHERS = (r"autoencoder/", r"text_encoder/")
DROPS = {"data.drop_references": 0.1}  # independent of the prompt's: drop_both is their product
CHANGES = {
    "train_decoder": {"train.trained": (DECODER, *ADDED), "train.frozen": (ENCODER, *OTHERS)},
    "train_all": {"train.trained": (FROM_SD, *ADDED), "train.frozen": OTHERS},
    "train_encoder": {"train.trained": (ENCODER, *ADDED), "train.frozen": (DECODER, *OTHERS)},
    "train_references": {"train.trained": ADDED, "train.frozen": (FROM_SD, *OTHERS)},
    "drop_prompt_0": {"data.drop_prompt": 0.0, **DROPS, "data.drop_both": 0.0},
    "drop_prompt_10": {"data.drop_prompt": 0.1, **DROPS, "data.drop_both": 0.01},
    "drop_prompt_50": {"data.drop_prompt": 0.5, **DROPS, "data.drop_both": 0.05},
    "drop_prompt_90": {"data.drop_prompt": 0.9, **DROPS, "data.drop_both": 0.09},
    "time_target": {"model.retrieval.reference_timestep": "target"},
    "time_zero": {"model.retrieval.reference_timestep": "zero"},
    "references_1": {"data.faces": 1, "data.clothes": 0},
    "references_2": {"data.faces": 1, "data.clothes": 1},
    "references_4": {"data.faces": 2, "data.clothes": 2},
    "same_image": {"data.tasks.composition": 0.0, "data.tasks.reconstruction": 1.0},
    "other_image": {"data.tasks.composition": 0.0, "data.tasks.same_identity": 1.0},
    "view_crop": {"data.view": "crop"},
    "view_in_place": {"data.view": "in_place"},
    "target_image": {"train.target": "image"},
    "target_base": {"train.target": "base"},
}


def get_config(variant: str = "time_target") -> ConfigDict:
    """Returns the configuration of `CHANGE` or `VARIANT,CHANGE`; raises ValueError otherwise."""
    base, _, change = variant.rpartition(",")
    if change not in CHANGES:
        raise ValueError(f"unknown change {change!r} of ablations.py: use {', '.join(CHANGES)}")
    c = composition.get_config(base or "sd15")
    if c.model.patch and change.startswith("train_"):
        raise ValueError(
            f"{change} is about the weights of a pretrained model: use sd15,{change}, or another "
            "variant that starts from one"
        )
    c.update_from_flattened_dict(CHANGES[change])
    return c
