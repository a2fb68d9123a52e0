"""No variant of a picture is in another split: such pictures are left out, named and counted."""

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.helpers import retribooru_folder
from tfds_retribooru import check, describe, variants
from tfds_retribooru.building import splits, stored
from tfds_retribooru.building.records import Record
from tfds_retribooru.building.stored import Stored

FIRST = np.random.default_rng(0).integers(0, 256, 32, np.uint8)


def hash_at(distance: int) -> bytes:
    """A hash, without colours, so many bits from the first; they are spread over it."""
    bits = np.unpackbits(FIRST)
    bits[np.random.default_rng(distance).permutation(256)[:distance]] ^= 1
    return np.packbits(bits).tobytes().ljust(variants.SIZE, b"\x80")


@pytest.mark.parametrize(
    "first, split, name, character, distance, is_left_out",
    [
        ("validation", "train", "2", "ann", 128, False),  # another picture
        ("validation", "train", "5", "bob", 128, True),  # linked
        ("validation", "validation", "5", "bob", 128, False),  # of the same split
        ("validation", "train", "2", "ann", variants.DISTANCE, True),
        ("validation", "train", "2", "ann", variants.DISTANCE + 1, False),
        ("validation", "validation", "2", "ann", 1, False),
        ("validation", "train", "2", "bob", 0, False),  # one picture under two names
        ("test", "train", "2", "bob", stored.COPY, True),
        ("test", "validation", "2", "bob", stored.COPY, True),
        ("test", "train", "2", "bob", stored.COPY + 1, False),
        ("test", "test", "2", "bob", 1, False),
    ],
)
def test_variants_of_another_split_are_left_out(
    first, split, name, character, distance, is_left_out
):
    kept = Stored(variants.roots([("1", "5")]))
    kept.add(first, Record("1", "ann"), digest=b"1", hashed=hash_at(0))
    record, hashed = Record(name, character, file="a.json", line=3), hash_at(distance)
    fault = kept.fault(split, record, digest=b"2", hashed=hashed)
    assert (fault is not None) == is_left_out
    if fault is not None:
        found = fault.id, fault.part, fault.reason, fault.detail, fault.file, fault.line
        assert found == (name, stored.VARIANT, stored.LEFT_OUT, f"1 ({first})", "a.json", 3)


def test_pictures_are_not_compared_with_those_of_their_own_split(monkeypatch):
    """A character of 10,000 pictures would cost 50 million comparisons."""
    compared = []

    def recoloured(hashes, pairs):
        compared.extend(pairs)
        return np.ones(len(pairs), bool)

    monkeypatch.setattr(variants, "recoloured", recoloured)
    kept = Stored({})
    for k in range(20):
        record = Record(str(k), "ann")
        assert kept.fault("test", record, digest=b"%d" % k, hashed=hash_at(k)) is None
        kept.add("test", record, digest=b"%d" % k, hashed=hash_at(k))
    assert not compared
    assert kept.fault("train", Record("20", "ann"), digest=b"20", hashed=hash_at(0)) is None
    assert len(compared) >= 20


@pytest.mark.parametrize("split, other", [("validation", "ann"), ("test", "bob")])
def test_a_drawing_in_other_colours_is_stored(split, other):
    """Sprites and paper dolls: each outfit, and each character, is one template recoloured."""
    colours = np.full((2, 6, 6, 2), 128, np.uint8)  # Cb and Cr
    colours[:, 2:5, 2:4] = [[[[90, 200]]], [[[200, 90]]]]
    hashes = [FIRST.tobytes() + part.tobytes() for part in colours]
    kept = Stored({})
    kept.add(split, Record("1", "ann"), digest=b"1", hashed=hashes[0])
    assert kept.fault("train", Record("2", other), digest=b"2", hashed=hashes[0]) is not None
    assert kept.fault("train", Record("2", other), digest=b"2", hashed=hashes[1]) is None


def test_of_equal_pictures_the_first_is_stored_in_any_split():
    kept = Stored({})
    kept.add("train", Record("1", "ann"), digest=b"1", hashed=hash_at(0))
    fault = kept.fault("train", Record("2", "bob"), digest=b"1", hashed=hash_at(0))
    assert (fault.part, fault.reason, fault.detail) == ("", stored.SAME_IMAGE, "1")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """One character of `test`, two of `train`; of these, one picture is linked, one a near copy."""
    data_dir = tmp_path_factory.mktemp("stored")
    root = data_dir / "downloads" / "manual" / "retribooru"
    made, names = retribooru_folder.records(3), [f"who {k}" for k in range(100)]
    is_test = [splits.share("character", name) < splits.TEST for name in names]
    chosen = [
        names[is_test.index(True)],
        *[n for n, t in zip(names, is_test, strict=True) if not t],
    ]
    for k, record in enumerate(made):
        record["character"] = chosen[k // 6]
    held_out, linked, copied = made[0], made[7], made[14]
    linked["parent_id"] = held_out["id"]
    retribooru_folder.write(root, made, masks=False)
    for record in made:
        image = retribooru_folder.draw_detailed(int(record["id"]))
        image.save(root / "images" / f"{record['id']}.png", compress_level=1)
    image = retribooru_folder.draw_detailed(int(held_out["id"])).resize((330, 440))
    (root / "images" / f"{copied['id']}.png").unlink()
    image.save(root / "images" / f"{copied['id']}.jpg", quality=80)
    builder = tfds.builder("retribooru/384", data_dir=data_dir)
    builder.download_and_prepare()
    return builder, made


def test_a_build_leaves_variants_out_of_train_and_names_them(built, capsys):
    builder, made = built
    counts = {name: info.num_examples for name, info in builder.info.splits.items()}
    assert counts == {"test": 6, "train": 10}
    lines = (builder.data_path / "rejected.jsonl").read_text().splitlines()
    faults = {(f["id"], f["part"], f["detail"]) for f in map(json.loads, lines)}
    detail = f"{made[0]['id']} (test)"
    assert faults == {(made[k]["id"], stored.VARIANT, detail) for k in (7, 14)}
    assert describe.statistics(builder)["variants_left_out"] == 2
    assert "2 more are left out" in describe.table(describe.statistics(builder))
    assert check.main([str(builder.data_path)]) == 0


@pytest.mark.parametrize("link", [True, False])
def test_check_finds_variants_across_splits(built, tmp_path, link, capsys):
    builder, made = built
    folder = tmp_path / "1.2.0"
    folder.mkdir()
    for path in builder.data_path.iterdir():
        (folder / path.name).symlink_to(path)
    lines = [json.loads(text) for text in (folder / variants.NAME).open()]
    test, train = (next(x for x in lines if x["id"] == made[k]["id"]) for k in (1, 8))
    train |= {"relatives": [test["id"]]} if link else {"hash": test["hash"]}
    (folder / variants.NAME).unlink()
    (folder / variants.NAME).write_text("\n".join(map(json.dumps, lines)))
    assert check.main([str(folder)]) == 1
    assert f"1  variants in two splits\n{'':>10}{train['id']} (train): {test['id']} (test)" in (
        capsys.readouterr().out
    )
