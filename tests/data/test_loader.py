"""Training examples: their arrays, what is drawn, and that a run can be resumed."""

from collections import Counter

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import ablations
from rbjax.data import dataset, loader
from rbjax.data import images as images_lib
from rbjax.data.image_cache import ConceptCrops
from rbjax.models.batch import Batch
from rbjax.text import tokenizer as tokenizer_lib
from rbjax.text.concepts import CHARACTER, CLOTHES, CONCEPTS, FACE

SIZE, TOKENS = 16, 40
SHAPES = {
    "target": (SIZE, SIZE, 3),
    "prompt": (TOKENS,),
    "references": (4, SIZE, SIZE, 3),
    "concepts": (4, 3),
    "reference_mask": (4,),
    "index": (),
}
KINDS = {FACE: {"identity"}, CLOTHES: {"outfit"}, CHARACTER: {"identity", "outfit"}}


def config(**changes) -> ConfigDict:
    defaults = {
        **{"faces": 2, "clothes": 2, "vary_references": False, "tasks": {"composition": 1.0}},
        **{"prompt_tags": "free", "max_tokens": TOKENS},
        **{
            "crop_jitter": 0.0,
            "fixed_changes": False,
            "flip_references": 0.0,
            "blank_background": 0.0,
        },
        **{"shuffle_tags": False, "drop_tags": 0.0, "keep_tags": 0},
        **{"underscores_as_spaces": False, "character_power": 1.0, "mask_bars": False},
        **{"drop_prompt": 0.0, "drop_references": 0.0, "drop_both": 0.0, "drop_rates": "total"},
    }
    return ConfigDict({**defaults, **changes})


@pytest.fixture(scope="module")
def make(avatars):
    """make(**settings) -> Examples."""
    split = dataset.open_split(avatars, "train")
    crops = ConceptCrops(split, size=SIZE, view="crop", cache=True)
    tokenizer = tokenizer_lib.word_tokenizer(split.vocabulary)
    return lambda **changes: loader.Examples(split, crops, tokenizer, config(**changes))


def draw(examples, count=24) -> list[Batch]:
    """Examples of every ninth target, each from its own generator."""
    return [examples.random_map(9 * i, np.random.default_rng(i)) for i in range(count)]


def concepts_of(examples, example) -> list[int]:
    """The concepts of the visible references."""
    rows = example.concepts[example.reference_mask]
    return [CONCEPTS.index(examples.tokenizer.id_to_token(row[1])) for row in rows]


def prompt(examples, example) -> list[str]:
    return examples.tokenizer.decode(example.prompt, skip_special_tokens=False).split()


def framed(tags) -> list[str]:
    """The words of a prompt of these tags, padded."""
    words = [tokenizer_lib.START, *" ".join(tags).split(), tokenizer_lib.END]
    return words + [tokenizer_lib.PAD] * (TOKENS - len(words))


# --- an example


@pytest.mark.parametrize("task", ["composition", "same_identity", "same_outfit", "reconstruction"])
def test_shapes_types_and_contents(make, task):
    examples = make(tasks={task: 1.0})
    for i, example in enumerate(draw(examples)):
        fields = {
            key: value for key, value in vars(example).items() if key not in ("shown", "all_tags")
        }
        assert {key: value.shape for key, value in fields.items()} == SHAPES
        assert example.shown is None  # the images are squares
        kinds = {key: value.dtype.name for key, value in fields.items()}
        assert set(kinds.values()) == {"uint8", "int32", "bool"}
        assert example.index == 9 * i
        np.testing.assert_array_equal(example.target, examples.crops[9 * i, CHARACTER])
        unused = example.references[~example.reference_mask]
        assert (unused == images_lib.WHITE).all()


def test_references_are_crops_of_the_named_concept(make):
    examples = make()
    clusters = examples.split.clusters
    for example in draw(examples):
        target = int(example.index)
        crops = example.references[example.reference_mask]
        for crop, concept in zip(crops, concepts_of(examples, example), strict=True):
            images = clusters.same_character(target)
            matches = [i for i in images if (examples.crops[i, concept] == crop).all()]
            assert matches and target not in matches


@pytest.mark.parametrize("task", ["composition", "same_identity", "same_outfit", "reconstruction"])
def test_free_prompts_say_nothing_that_the_references_carry(make, task):
    examples = make(tasks={task: 1.0}, vary_references=True)
    known = examples.split.vocabulary["tags"]
    for example in draw(examples):
        carried = set().union(*(KINDS[c] for c in concepts_of(examples, example)))
        tags = examples.split.tags[int(example.index)]
        free = [t for t in tags if t == "solo" or known[t]["kind"] not in carried]
        assert prompt(examples, example) == framed(free)
        assert any(known[t]["kind"] == "free" for t in free if t != "solo")


@pytest.mark.parametrize("tokens, most", [(40, 20_000), (9, 20_000), (9, 30), (2, 100)])
def test_prompts_that_are_cut_are_counted(make, tokens, most):
    """Of composition; the words of a prompt without what face and clothes carry, and two more."""
    examples = make(max_tokens=tokens)
    cut, count = examples.count_cut(most)
    step = -(-len(examples.split) // most)
    lengths = [
        2 + sum(len(tag.split()) for tag in examples.tags(target, {"identity", "outfit"}))
        for target in range(0, len(examples.split), step)
    ]
    assert (cut, count) == (sum(length > tokens for length in lengths), len(lengths))
    assert count <= most and (tokens == 9) == (0 < cut < count)


def test_with_whole_references_prompts_without_them_are_counted(make):
    """All of the tags are shorter than that only where the references carry no part of them."""
    tags = {"same_identity": 1.0, "composition": 0.0}
    assert make(tasks=tags, max_tokens=9).count_cut() == make(max_tokens=9).count_cut()
    assert make(faces=0, max_tokens=9).count_cut() > make(max_tokens=9).count_cut()


def test_all_prompts_say_everything(make):
    examples = make(prompt_tags="all")
    for example in draw(examples):
        tags = examples.split.tags[int(example.index)]
        assert example.reference_mask.any()
        assert prompt(examples, example) == framed(tags)


# --- switches, in both positions


def is_dropped(examples, example) -> tuple[bool, bool]:
    no_prompt = prompt(examples, example) == framed([])
    return no_prompt, not example.reference_mask.any()


@pytest.mark.parametrize(
    "rates, expected",
    [
        ({}, (False, False)),
        ({"drop_prompt": 1.0}, (True, False)),
        ({"drop_references": 1.0}, (False, True)),
        ({"drop_prompt": 1.0, "drop_references": 1.0, "drop_both": 1.0}, (True, True)),
    ],
)
def test_drop_rates(make, rates, expected):
    examples = make(**rates)
    assert {is_dropped(examples, example) for example in draw(examples)} == {expected}


def share_of_drops(examples, count=600) -> tuple[float, float, float]:
    """Counted rates of examples without prompt, without references, without either."""
    rng = np.random.default_rng(0)
    dropped = np.array([is_dropped(examples, examples.random_map(0, rng)) for _ in range(count)])
    return (*dropped.mean(axis=0), dropped.all(axis=1).mean())


@pytest.mark.parametrize("rates", [(0.3, 0.4, 0.1), (0.9, 0.1, 0.05), (0.5, 0.5, 0.5)])
def test_drop_rates_are_totals(make, rates):
    names = ("drop_prompt", "drop_references", "drop_both")
    examples = make(**dict(zip(names, rates, strict=True)))
    assert share_of_drops(examples) == pytest.approx(rates, abs=0.05)


def test_drop_rates_of_older_runs_count_apart(make):
    examples = make(drop_prompt=0.2, drop_references=0.3, drop_both=0.1, drop_rates="apart")
    assert share_of_drops(examples) == pytest.approx((0.3, 0.4, 0.1), abs=0.05)


@pytest.mark.parametrize("percent", [0, 10, 50, 90])
def test_ablations_of_the_prompt_drop_what_they_say(make, percent):
    """Each still trains prompt and references together."""
    data = ablations.get_config(f"avatars,drop_prompt_{percent}").data
    names = ("drop_prompt", "drop_references", "drop_both")
    prompt, references, both = share_of_drops(make(**{name: data[name] for name in names}))
    assert prompt == pytest.approx(percent / 100, abs=0.05)
    assert references == pytest.approx(0.1, abs=0.05)
    assert 1 - prompt - references + both > 0.05


def test_dropped_references_leave_the_full_prompt(make):
    examples = make(drop_references=1.0)
    for example in draw(examples):
        assert prompt(examples, example) == framed(examples.split.tags[int(example.index)])
        assert (example.references == images_lib.WHITE).all()


def test_number_of_references_is_fixed_or_varies(make):
    def counts(vary):
        examples = make(vary_references=vary)
        rng = np.random.default_rng(0)
        pairs = [Counter(concepts_of(examples, examples.random_map(0, rng))) for _ in range(60)]
        return {(pair[FACE], pair[CLOTHES]) for pair in pairs}

    assert counts(False) == {(2, 2)}
    assert counts(True) == {(1, 1), (1, 2), (2, 1), (2, 2)}


def test_padding_comes_last(make):
    for example in draw(make(vary_references=True)):
        mask = example.reference_mask.tolist()
        assert mask == sorted(mask, reverse=True)


def test_tasks_mix_by_weight(make):
    examples = make(tasks={"composition": 3.0, "same_identity": 1.0, "same_outfit": 0.0})
    rng = np.random.default_rng(0)
    drawn = [concepts_of(examples, examples.random_map(0, rng)) for _ in range(400)]
    entire = sum(CHARACTER in concepts for concepts in drawn)
    assert entire / 400 == pytest.approx(0.25, abs=0.07)
    only = make(tasks={"composition": 0.0, "same_identity": 0.5, "same_outfit": 0.0})
    assert all(set(concepts_of(only, example)) == {CHARACTER} for example in draw(only))


def test_jitter_and_flips_change_references_and_no_more(make):
    exact, jittered = make(), make(crop_jitter=0.2, flip_references=0.5)
    pairs = zip(draw(exact), draw(jittered), strict=True)
    for plain, changed in pairs:
        np.testing.assert_array_equal(plain.target, changed.target)
        np.testing.assert_array_equal(plain.prompt, changed.prompt)
        np.testing.assert_array_equal(plain.concepts, changed.concepts)
        different = (plain.references != changed.references).any((1, 2, 3))
        assert different[plain.reference_mask].all()


def test_mirrored_references_are_mirrored(make):
    pairs = zip(draw(make()), draw(make(flip_references=1.0)), strict=True)
    for plain, mirrored in pairs:
        np.testing.assert_array_equal(plain.references[:, :, ::-1], mirrored.references)


def test_shuffled_and_dropped_tags_are_of_the_target(make):
    plain, varied = make(), make(shuffle_tags=True, drop_tags=0.3, keep_tags=1)
    pairs = list(zip(draw(plain), draw(varied), strict=True))
    for one, other in pairs:
        words, some = prompt(plain, one), prompt(varied, other)
        assert Counter(some) - Counter(words) <= Counter({tokenizer_lib.PAD: TOKENS})
        assert words[1] == some[1] == "solo"
        np.testing.assert_array_equal(one.references, other.references)
    assert sum(prompt(plain, one) != prompt(varied, other) for one, other in pairs) > 12


def test_underscores_are_read_as_spaces(make):
    tags = ["red_hair", "bob_cut"]
    ids = make(underscores_as_spaces=True).prompt_ids(tags)
    np.testing.assert_array_equal(ids, make().prompt_ids(["red hair", "bob cut"]))
    assert (ids != make().prompt_ids(tags)).any()


def test_the_first_tags_that_fit_stay_as_they_are_spelled(make):
    examples = make(underscores_as_spaces=True, max_tokens=6)
    tags = ("solo", "red_hair", "bob_cut")
    assert examples.fitting(tags) == ["solo", "red_hair"] and examples.fitting(()) == []
    np.testing.assert_array_equal(examples.prompt_ids([*tags]), examples.prompt_ids([*tags[:2]]))


# --- batches


def batches(examples, seed, count=4, threads=2):
    iterator = loader.iterator(examples, batch_size=8, seed=seed, threads=threads)
    return [next(iterator) for _ in range(count)]


def assert_equal(a: list[Batch], b: list[Batch]):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_same_seed_same_bytes(make):
    examples = make(vary_references=True, drop_prompt=0.2)
    assert_equal(batches(examples, seed=3), batches(examples, seed=3, threads=1))


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, SystemExit])
def test_what_ends_a_thread_is_raised_where_batches_are_read(make, monkeypatch, error):
    def fail(self, element, rng):
        raise error("of this thread")

    monkeypatch.setattr(loader.Examples, "_draw", fail)
    with pytest.raises(error, match="of this thread"):
        batches(make(), seed=0)


def test_another_seed_another_order(make):
    first, second = (batches(make(), seed, count=1)[0] for seed in (3, 4))
    assert first.index.tolist() != second.index.tolist()


def test_an_epoch_has_every_image_once(make):
    examples = make()
    size = len(examples.split)
    indices = np.concatenate([b.index for b in batches(examples, 0, count=size // 8 * 2)])
    assert sorted(indices[: size // 8 * 8]) == sorted(set(indices[: size // 8 * 8]))
    assert set(indices.tolist()) == set(range(size))


def test_draws_differ_between_epochs(make):
    examples = make()
    size = len(examples.split)
    drawn = batches(examples, 0, count=size // 4)
    seen = {}
    for batch in drawn:
        for index, crops in zip(batch.index, batch.references, strict=True):
            seen.setdefault(int(index), []).append(crops.tobytes())
    twice = [crops for crops in seen.values() if len(crops) == 2]
    assert sum(a != b for a, b in twice) > 0.9 * len(twice)


def test_a_resumed_iterator_goes_on_exactly(make):
    examples = make(vary_references=True, drop_both=0.1, crop_jitter=0.2, flip_references=0.5)
    iterator = loader.iterator(examples, batch_size=8, seed=5, threads=2)
    for _ in range(3):
        next(iterator)
    state = iterator.get_state()
    expected = [next(iterator) for _ in range(3)]
    resumed = loader.iterator(examples, batch_size=8, seed=5, threads=2)
    resumed.set_state(state)
    assert_equal([next(resumed) for _ in range(3)], expected)


def test_characters_drawn_by_a_power_resume_exactly(make):
    examples = make(character_power=0.5, shuffle_tags=True)
    together = batches(examples, seed=2)
    iterator = loader.iterator(examples, batch_size=8, seed=2, threads=1)
    for _ in range(2):
        next(iterator)
    resumed = loader.iterator(examples, batch_size=8, seed=2, threads=2)
    resumed.set_state(iterator.get_state())
    assert_equal([next(resumed), next(resumed)], together[2:])


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_processes_build_their_rows_of_the_same_batches(make, power):
    """With the same draws, and a state that another number of processes reads."""
    settings = {"batch_size": 8, "seed": 0, "threads": 1}
    whole = loader.iterator(make(character_power=power), **settings)
    rows = [np.array([0, 1, 2, 6]), np.array([3, 4, 5, 7])]
    parts = [loader.iterator(make(character_power=power), **settings, rows=r) for r in rows]
    for _ in range(2):
        batch = next(whole)
        for part, own in zip(parts, rows, strict=True):
            expected = jax.tree.map(lambda x, own=own: x[own], batch)
            assert_equal([next(part)], [expected])
    assert [part.get_state() for part in parts] == [whole.get_state()] * 2
    expected, other = next(whole), loader.iterator(make(character_power=power), **settings)
    other.set_state(parts[0].get_state())
    assert_equal([next(other)], [expected])


def test_stack_and_place(make):
    batch = loader.stack(draw(make(), 8))
    assert batch.references.shape == (8, *SHAPES["references"])
    mesh = jax.make_mesh((8,), ("data",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    placed = loader.place(batch, sharding)
    assert all(value.sharding == sharding for value in jax.tree.leaves(placed))
    assert_equal([placed], [batch])
