"""A small dump with one post of every kind, in both dialects, with images of avatars."""

import json
import pathlib

from PIL import Image

OUTFIT = ["1girl", "solo", "serafuku", "pleated_skirt", "kneehighs"]
OTHER = ["1girl", "solo", "bikini", "sarong"]


def post(name: int, **change) -> dict:
    """Returns a post of the dialect after 2021."""
    return {
        "id": name,
        "md5": f"{name:032x}",
        "rating": "g",
        "image_width": 128,
        "image_height": 128,
        "file_ext": "png",
        "is_deleted": False,
        "is_banned": False,
        "tag_string_general": " ".join(OUTFIT),
        "tag_string_artist": "artist",
        "tag_string_character": "sendai",
    } | change


def until_2021(new: dict) -> dict:
    """Returns the same post in the older dialect."""
    kinds = {"general": "0", "artist": "1", "character": "4"}
    strings = {kind: new[f"tag_string_{kind}"] for kind in kinds}
    tags = [
        {"id": "1", "name": name, "category": kinds[kind]}
        for kind, names in strings.items()
        for name in names.split()
    ]
    rest = {key: value for key, value in new.items() if not key.startswith("tag_string")}
    rating = {"g": "s"}.get(new["rating"], "q")
    return rest | {"id": str(new["id"]), "rating": rating, "tags": tags}


def files() -> dict[str, list[dict | str]]:
    """Returns file name -> posts and raw lines; EXPECTED_* say what becomes of them."""
    other = " ".join(OTHER)
    return {
        "a.json": [
            until_2021(post(1001)),
            until_2021(post(2001)),
            '{"id": 5, "rating"',
            until_2021(post(3, rating="q")),
            until_2021(post(4, is_banned=True)),
            until_2021(post(5, tag_string_general=other)),
        ],
        "b.json": [
            post(6, tag_string_general=other),
            post(7, md5=f"{6:032x}"),
            post(8, tag_string_artist="", mood="new"),
            post(2001, tag_string_general=other),
            post(9, tag_string_character="naka"),
            post(10, tag_string_general="solo"),
            post(11),
            post(13, id="x/y"),
            post(12, tag_string_general=other, md5="?"),
        ],
    }


EXPECTED_KEPT = {
    "1001": ["2001", "11"],
    "2001": ["11", "1001"],
    "11": ["1001", "2001"],
    "5": ["6", "12"],
    "6": ["12", "5"],
    "12": ["5", "6"],
}
EXPECTED_DROPPED = [  # file, line, id, reason
    ("a.json", 3, "", "bad_json"),
    ("a.json", 4, "3", "rating"),
    ("a.json", 5, "4", "gone"),
    ("b.json", 2, "7", "duplicate_file"),
    ("b.json", 3, "", "unknown_key mood"),
    ("b.json", 3, "8", "no_artist"),
    ("b.json", 4, "2001", "duplicate_id"),
    ("b.json", 5, "9", "no_partner"),
    ("b.json", 6, "10", "no_clothing"),
    ("b.json", 8, "x/y", "bad_id"),
    ("b.json", 9, "12", "bad_md5"),
]


def write_metadata(folder: pathlib.Path) -> list[str]:
    """Writes the files; returns their paths."""
    folder.mkdir()
    for name, rows in files().items():
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (folder / name).write_text("\n".join(lines) + "\n")
    return sorted(map(str, folder.iterdir()))


def write_images(folder: pathlib.Path, source) -> None:
    """Writes images in every layout; 11 is a near copy of 1001, 12 is missing, 6 is broken."""
    images = [Image.fromarray(source[i]["image"]) for i in range(0, 24, 4)]
    places = {
        "original/0001/1001.png": 0,
        "original/0001/2001.png": 1,
        "512px/0005/5.jpg": 2,
        "9.png": 4,
    }
    for place, k in places.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        images[k].save(folder / place)
    images[0].resize((200, 200)).save(folder / "11.webp", quality=90)
    (folder / "6.png").write_bytes((folder / "9.png").read_bytes()[:500])


def read(out: pathlib.Path) -> tuple[dict[str, dict], list[tuple]]:
    """Returns (id -> annotation, sorted rows of dropped.jsonl with the name of the file)."""
    found: dict[str, dict] = {}
    for path in sorted(out.glob("annotations-*")):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            assert record["id"] not in found
            found[record["id"]] = record
    return found, read_dropped(out / "manifest/dropped.jsonl")


def read_dropped(path: pathlib.Path) -> list[tuple]:
    """Returns the sorted rows of dropped.jsonl with the name of the file."""
    lines = map(json.loads, path.read_text().splitlines())
    return sorted((pathlib.Path(r["file"]).name, r["line"], r["id"], r["reason"]) for r in lines)
