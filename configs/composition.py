"""Compose a character from references: faces of one image, clothes of another, the rest by prompt.

Run:  python -m rbjax.main --config configs/composition.py[:VARIANT]

Variants (the README says how long they take):
  avatars       the default: embedded data, moving figures at 128 px, cropped references, on the
                text-to-image model that the package ships; for 2 CPU cores
  avatars_long  the same with 2.4 times the images, 32 an update
  avatars_details  a further training, of the model that ships or another (--config.init_from=DIR),
                in which details count more
  avatars_taught   another one, by the base model, with prompts that vary; the model that ships is
                avatars_long, then avatars_details, then this, each from the one before
  smoke         a few steps on a few characters, 64 px: a minute, shows that everything runs
  retribooru_smoke  the same on RetriBooru's images, shrunk to 48 px; they must be built or lie in
                DATA_DIR/downloads/manual/retribooru
  sd15          RetriBooru at 384 px on Stable Diffusion (--config.pretrained=DIR): the paper's
                set-up, for four chips with 24 GiB and more, or others (README, Will it fit)
"""

from ml_collections import ConfigDict

# Of Stable Diffusion its decoder trains (paper); the retrieval encoder is a copy of its encoder.
TRAINED = (
    r"retrinet/unet/(up_blocks|conv_norm_out|conv_out)/",
    r"retrinet/retrieval_encoder/(?!time_embedding)",
    r"retrinet/conjunctions/",
)
FROZEN = (
    r"autoencoder/",
    r"text_encoder/",
    r"retrinet/unet/(conv_in|time_embedding|down_blocks|mid_block)/",
    r"retrinet/retrieval_encoder/time_embedding/",
)


def get_config(variant: str = "avatars") -> ConfigDict:
    """Returns the configuration of a variant.

    Raises:
        ValueError: there is no such variant.
    """
    variants = {
        "avatars": avatars,
        "avatars_long": avatars_long,
        "avatars_details": avatars_details,
        "avatars_taught": avatars_taught,
        "smoke": smoke,
        "sd15": sd15,
        "retribooru_smoke": retribooru_smoke,
    }
    if variant not in variants:
        raise ValueError(
            f"unknown variant {variant!r} of composition.py: use {', '.join(variants)}"
        )
    return variants[variant]()


def avatars() -> ConfigDict:
    """Builds the default: composition on the base model that ships, on two CPU cores.

    As in the paper all of it is frozen but the UNet's decoder, and references are cropped.
    """
    c = ConfigDict()
    c.seed = 0  # of initialisation, order, noise and evaluation
    c.total_steps = 2400  # updates; also the length of the learning rate's decay
    c.batch_size = 16  # examples of an update, over all devices
    c.data_dir = ""  # of TFDS; "" = ~/tensorflow_datasets
    # Folder of Stable Diffusion in diffusers' format, where the model comes from; "shipped": the
    # small one of the package (configs/base.py); "" = from scratch
    c.pretrained = "shipped"
    # Saved model of the same sizes to train further (scripts/export_pytorch.py --format model);
    # "shipped": the one of the package; "" = none
    c.init_from = ""

    c.mesh = ConfigDict()
    c.mesh.data = -1  # copies of the model; -1 = all devices that the other axes leave
    c.mesh.fsdp = 1  # parts of parameters, moments and batch
    c.mesh.tensor = 1  # parts of each layer

    c.data = ConfigDict()
    c.data.dataset = "avatars/varied"  # name in TFDS
    c.data.size = 128  # pixels of targets and references
    # Aspect-ratio buckets by kohya's rules and names, each compiled once (rbjax/data/buckets.py)
    c.data.bucket_reso_steps = 0  # sides are its multiples; 0 = squares, filled up with white bars
    c.data.min_bucket_reso = c.data.max_bucket_reso = 0  # pixels of the shortest and longest side
    c.data.mask_bars = True  # leave white bars out of the loss
    c.data.faces = 1  # face references of an example
    c.data.clothes = 1  # clothes references of an example
    c.data.vary_references = False  # draw the numbers from 1 to these
    c.data.view = "crop"  # how a reference shows its concept: "crop" or "in_place"
    c.data.crop_jitter = 0.3  # share of a side by which training widens references' boxes, at most
    c.data.flip_references = 0.5  # rate of references that training shows mirrored
    c.data.fixed_changes = True  # draw these once a record, so that its latents can be stored
    c.data.blank_background = 0.0  # rate of clothes references blanked outside of their mask
    c.data.tasks = ConfigDict()  # weights of the training tasks (paper, Tasks)
    c.data.tasks.composition = 1.0  # faces and clothes from different images
    c.data.tasks.same_identity = 0.0  # entire images of the character
    c.data.tasks.same_outfit = 0.0  # entire images of the character in that outfit
    c.data.tasks.reconstruction = 0.0  # the target itself (leaky baseline)
    c.data.character_power = 1.0  # of its number of images, by which a character is drawn
    c.data.prompt_tags = "free"  # "free": no tag that the references carry; "all": all tags
    c.data.shuffle_tags = False  # draw the order of a prompt's tags: what does not fit, varies
    c.data.drop_tags = 0.0  # rate at which each tag of a prompt is left out
    c.data.keep_tags = 0  # the first tags, neither moved nor left out (kohya: keep_tokens)
    c.data.underscores_as_spaces = False  # read red_hair as "red hair", as CLIP's words are
    c.data.max_tokens = 32  # length of a prompt
    c.data.drop_prompt = 0.1  # rate of examples without prompt
    c.data.drop_references = 0.1  # rate of examples without references
    c.data.drop_both = 0.05  # rate of examples without either
    c.data.drop_rates = "total"  # drop_both is counted in the two above; "apart": it is not
    c.data.cache = True  # keep all images decoded on disk (small data sets)
    c.data.cached_latents = True  # train from the latents of scripts/cache_latents.py, if they fit
    c.data.store_latents = True  # with these: make those that are missing before training
    c.data.threads = 2  # that prepare examples

    c.model = ConfigDict()  # sizes are those of `pretrained`; without: see `from_scratch`
    c.model.patch = 0  # BlockDCT: pixels of a latent's side; 0 = an autoencoder
    c.model.luma = 26  # BlockDCT: frequencies of brightness, at most patch**2
    c.model.chroma = 11  # BlockDCT: frequencies of either colour difference, at most patch**2
    c.model.vae = ConfigDict()  # fields of diffusers' AutoencoderKL; empty = BlockDCT
    c.model.vae.dtype = "float32"  # of the computation; parameters are float32
    c.model.unet = ConfigDict()  # fields of diffusers' UNet2DConditionModel
    c.model.unet.dtype = "float32"
    c.model.unet.remat = False  # compute activations twice, to keep fewer
    c.model.text = ConfigDict()  # fields of transformers' CLIPTextModel
    c.model.text.dtype = "float32"
    c.model.retrieval = ConfigDict()  # RetriNet's attention to the references
    c.model.retrieval.heads = 4  # attention heads of a conjunction
    c.model.retrieval.positions = True  # 2-D sine positions on queries and keys
    c.model.retrieval.reference_timestep = "zero"  # "target" (paper, v2) or "zero"

    c.noise_schedule = ConfigDict()  # see rbjax/diffusion/schedule.py; "" = as the folder says
    c.noise_schedule.betas = ""  # kind of schedule
    c.noise_schedule.prediction_type = ""  # what the model predicts

    c.train = ConfigDict()
    c.train.trained = TRAINED  # patterns of parameter names that train
    c.train.frozen = FROZEN  # patterns of those that do not; each matches exactly one list
    c.train.learning_rate = 5e-4  # peak
    c.train.warmup_steps = 100  # updates in which the rate rises from 0
    c.train.final_rate = 0.02  # of the peak, at the last update
    c.train.decay_steps = 0  # last updates, in which the rate falls in a line; 0 = cosine over all
    c.train.weight_decay = 0.0  # of AdamW
    c.train.adam_b2 = 0.99  # decay of Adam's second moment
    c.train.clip_norm = 1.0  # global norm of the gradient; 0 = off
    c.train.ema_decay = 0.999  # of the averaged parameters, which generate
    c.train.weighting = "uniform"  # of the loss: "uniform", "velocity" or "min_snr"
    # What to predict: the "image", or what the "base" model (`pretrained`) predicts of a prompt of
    # all tags, which then must say what references carry (rbjax/train/teachers.py)
    c.train.target = "image"
    c.train.accumulate = 1  # parts of a batch that go through the model one after the other
    # Updates that are not finite are not applied; the run ends after so many in a row.
    c.train.max_bad_updates = 50

    c.sampling = ConfigDict()
    c.sampling.steps = 10  # calls of the model
    c.sampling.method = "ddim"  # "ddim", "euler" or "dpm++2m"
    c.sampling.guidance_references = 1.5  # above 1: follow the references more; 1 = off
    c.sampling.guidance_prompt = 4.0  # above 1: follow the prompt more; 1 = off

    c.log_every = 100  # updates between lines of the log
    c.checkpoint_every = 800  # updates between checkpoints
    c.sample_every = 800  # updates between sample grids; one is made at the last step too
    c.sample_images = 8  # rows of a sample grid
    c.eval_every = 1200  # updates between evaluations while training
    c.eval = ConfigDict()
    c.eval.split = "test"  # characters that training never sees
    c.eval.development_split = "validation"  # scored while training; "" = eval.split
    c.eval.out_of_domain_split = "test_out_of_domain"  # scored at the end beside it; "" = none
    c.eval.characters = 100  # at the end; 0 = no evaluation and no sample grids
    c.eval.prompts = 2  # prompts of a character
    c.eval.repeats = 1  # images of a prompt, each with noise of its own
    c.eval.open_characters = 25  # of them, how many get images without a prompt too (diversity)
    c.eval.variant_characters = 24  # of them, how many are asked for with changed references too
    c.eval.truth_images = 24  # of avatars, how many images are compared with drawings
    c.eval.guidance_characters = 8  # of them, how many are asked for with other guidance too
    c.eval.periodic_characters = 16  # while training
    c.eval.batch_size = 48  # images generated at once; all cases of the variants
    # Folder of a BLIP-VQA: of scripts/train_vqa.py, or as transformers saves it; "" = what ships.
    c.eval.vqa = ""
    c.eval.clip = c.eval.dino = c.eval.face = ""  # folders of CLIP, DINO; ONNX file; "" = none
    c.lock()
    return c


def avatars_long() -> ConfigDict:
    """Builds the default with more images; `total_steps` only moves where the rate falls."""
    c = avatars()
    c.total_steps = 2900
    c.batch_size = 32
    c.train.ema_decay = 0.998
    c.log_every = 50
    c.train.decay_steps = 1500
    c.checkpoint_every = c.sample_every = 500
    c.eval_every = 1000
    return c


def avatars_details() -> ConfigDict:
    """Builds a further training from `init_from`, with the base model's weighting of the loss.

    The default's, uniform, teaches to retrieve, and loses details that the base model had.
    """
    c = avatars_long()
    c.seed = 1  # another order than the first training's
    c.init_from = "shipped"
    c.total_steps = 1700
    c.train.decay_steps = 1100
    c.train.weighting = "velocity"
    return c


def avatars_taught() -> ConfigDict:
    """Builds a further training from `init_from` to predict what the base model does of all tags.

    Its targets vary less than images, so that small batches do. The prompts' tags come in any
    order and may be missing: without that a model wants them as the data set has them.
    """
    c = avatars_details()
    c.seed = 2
    c.total_steps = 2800
    c.batch_size = 16
    c.data.shuffle_tags, c.data.drop_tags = True, 0.1
    c.train.target = "base"
    c.train.learning_rate = 4e-4
    c.train.decay_steps = 2400
    c.train.ema_decay = 0.999
    return c


def from_scratch() -> ConfigDict:
    """Builds a small model without weights to start from: 48 px, latents of a cosine transform."""
    c = avatars()
    c.unlock()
    c.pretrained = ""
    c.total_steps = 1200
    c.batch_size = 32
    c.data.dataset = "avatars/centered"
    c.data.size = 48
    c.data.view = "in_place"
    c.data.crop_jitter = c.data.flip_references = 0.0
    c.data.fixed_changes = c.data.cached_latents = c.data.store_latents = False
    c.model.patch = 6
    c.model.vae, c.model.text = ConfigDict(), ConfigDict()
    c.model.unet.block_out_channels = (64, 128)  # channels of each level
    # with attention or without ("DownBlock2D"), each level
    c.model.unet.down_block_types = ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D")
    c.model.unet.layers_per_block = 1  # ResNet blocks of a level
    c.model.unet.attention_head_dim = 1  # number of heads (sic, as in diffusers)
    c.model.unet.cross_attention_dim = 96  # = text.hidden_size
    c.model.unet.norm_num_groups = 16  # of group norms; divides all channels
    c.model.text.hidden_size = 96  # width of a token's state
    c.model.text.intermediate_size = 192  # width inside an MLP
    c.model.text.num_hidden_layers = 1  # transformer blocks
    c.model.text.num_attention_heads = 2  # divides hidden_size
    c.model.retrieval.heads = 1
    c.noise_schedule.betas = "rectified_flow"
    c.noise_schedule.prediction_type = "sample"  # the model predicts clean latents
    c.train.trained, c.train.frozen = (".*",), ()
    c.train.learning_rate = 2e-3
    c.train.ema_decay = 0.998
    c.log_every = 50
    c.sampling.method, c.sampling.guidance_prompt = "euler", 1.5
    c.lock()
    return c


def smoke() -> ConfigDict:
    """Builds a run of a few steps of everything on 24 characters, at 64 px."""
    c = shortened(avatars())
    c.data.dataset = "avatars/tiny"
    c.data.size = 64
    return c


def shortened(c: ConfigDict) -> ConfigDict:
    """Makes a run of six steps, with checkpoints, samples and scores, of a configuration."""
    c.total_steps = 6
    c.batch_size = 8
    c.train.warmup_steps = 2
    c.sampling.steps = 2
    c.log_every = 2
    c.checkpoint_every = c.sample_every = c.eval_every = 3
    c.sample_images = 2
    c.eval.characters = c.eval.prompts = c.eval.repeats = c.eval.open_characters = 2
    c.eval.guidance_characters = 1
    c.eval.variant_characters = 2
    c.eval.truth_images = 2
    c.eval.periodic_characters = 1
    c.eval.batch_size = 8
    return c


def sd15() -> ConfigDict:
    """Builds the paper's set-up: what is frozen, 2 faces + 2 clothes, 50 % prompt drop, 384 px.

    The model's sizes, the tokenizer and the noise schedule come from the folder of
    `config.pretrained`: Stable Diffusion 1.x or 2.x, or a finetune of one of them.
    """
    c = avatars()
    c.unlock()
    c.pretrained = ""  # --config.pretrained=DIR
    c.total_steps = 100_000
    c.batch_size = 64
    c.data.dataset = "retribooru/384"
    c.data.size = 384
    c.data.bucket_reso_steps, c.data.min_bucket_reso, c.data.max_bucket_reso = 64, 256, 576
    c.data.faces = c.data.clothes = 2
    c.data.crop_jitter = c.data.flip_references = 0.0
    c.data.fixed_changes = False
    c.data.character_power = 0.5  # one has 3,274 of 116,000 images; by 0 rare ones are overfitted
    c.data.shuffle_tags = c.data.underscores_as_spaces = True
    c.data.drop_tags = 0.1  # Danbooru's are sorted and incomplete
    c.data.max_tokens = 77
    c.data.drop_prompt = 0.5  # paper
    c.data.cache = False
    c.data.store_latents = False  # scripts/cache_latents.py makes them, once
    c.data.threads = 16
    c.model.vae.dtype = c.model.unet.dtype = "bfloat16"
    c.model.unet.remat = True
    c.model.retrieval.heads = 8
    c.model.retrieval.positions = False
    c.model.retrieval.reference_timestep = "target"  # paper, v2
    c.train.learning_rate = 5e-5
    c.train.warmup_steps = 1000
    c.train.weight_decay, c.train.adam_b2 = 0.01, 0.999
    c.train.ema_decay = 0.9999
    c.train.weighting = "min_snr"
    c.train.accumulate = 8
    c.sampling.steps = 20
    c.sampling.method = "dpm++2m"
    c.sampling.guidance_references, c.sampling.guidance_prompt = 2.0, 5.0
    c.checkpoint_every = c.sample_every = 2000
    c.eval_every = 10_000
    c.eval.out_of_domain_split = ""
    c.eval.repeats = 3
    c.eval.batch_size = 16
    c.lock()
    return c


def retribooru_smoke() -> ConfigDict:
    """Builds a run of a few steps of everything on real data, 48 px, with a small model of its own.

    See tfds_retribooru/retribooru/README.md for the data. Its questions are made from its tags, and
    the VQA model is asked those that it answers well there: the one that ships, hardly any
    (README, Any data with tags).
    """
    c = shortened(from_scratch())
    c.model.unet.block_out_channels = (16, 32)
    c.data.dataset = "retribooru/384"
    c.data.faces = c.data.clothes = 2
    c.data.vary_references = True
    c.data.view = "crop"
    c.data.shuffle_tags, c.data.drop_tags = True, 0.1
    c.data.max_tokens = 77
    c.data.cache = False  # images are decoded when they are needed
    return c
