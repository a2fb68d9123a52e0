"""Kinds of tags: what names something that a reference carries is not free, all else is."""

import itertools
import time

import pytest

from tfds_retribooru import tag_kinds

KINDS = tag_kinds.Kinds()


# A tag or more of every group of Danbooru's that is about people and what they wear, and what a
# prompt may say about pose, expression, view, place and things.
EXPECTED = {
    "identity": """
        1girl, 1boy, old man, mature female, loli, elf, dark elf, orc, cat girl, android, blue
        hair, two-tone hair, afro, bob cut, mohawk, hair bun, messy hair, bald, blonde, twintails,
        low twin braids, drill hair, hime cut, ahoge, swept bangs, sidelocks, hair over one eye,
        hair between eyes, hair behind ear, hair tied back, hair up, short hair with long locks,
        colored inner hair, low-tied long hair, red streaks, red eyes, heterochromia, slit pupils,
        tsurime, thick eyebrows, long eyelashes, dark skin, dark-skinned male, tan, colored skin,
        freckles, mole under eye, scar across eye, facial tattoo, red lips, makeup, beard,
        stubble, fang, bindi, pointy ears, fox ears, cat tail, demon horns, feathered wings, halo,
        fins, large breasts, muscular, tall, plump, thick thighs, flat chest, white-haired,
        glasses, eyepatch, hair ribbon, x hair ornament, stud earrings, mouth mask,
        bird legs, winged arms, cyclops, snaggletooth, missing limb, pumpkin head, scar across face,
        nekomimi, freckled, busty, six pack, preteen, grandma, bald head, hair cubes, hair chain,
        virtual youtuber, character:sendai, person:ann, species:elf, hair:blue hair""",
    "outfit": """
        shirt, blue shirt, blue-and-white striped shirt, t-shirt, off-shoulder sweater, pleated
        skirt, sundress, black leather jacket, tabard, plate armor, gold greaves, thighhighs,
        thigh-highs, single kneehigh, high heels, brown boots, barefoot, long sleeves, sleeves
        past wrists, detached sleeves, sleeveless, fingerless gloves, witch hat, baseball cap,
        tiara, hood up, jacket on shoulders, shirt tucked in, serafuku, school uniform, maid,
        playboy bunny, nurse, kimono, red hakama, bikini, panties under pantyhose, black over-
        kneehighs, see-through clothes, side slit, red bowtie, pearl necklace, belt, polka dot,
        floral print, lace trim, zipper, bare shoulders, midriff, cleavage cutout, nude, alternate
        costume, cosplay, police, idol, alice (cosplay), fake animal ears, denim, armored boots,
        rash guard, kigurumi, bikini top only, wa lolita, handbag, stethoscope, earphones, kusazuri,
        tangzhuang, ushanka, straitjacket, magatama, bandaged arm, corsage, lapel pin, cuff links,
        jingle bell, wimple, mawashi, naked towel, flipflops,
        wrist scrunchie, clothing:red skirt, clothing:frills""",
    "free": """
        solo, smile, open mouth, closed eyes, half-closed eyes, one eye closed, blush, tears,
        v-shaped eyebrows, raised eyebrows, glowing eyes, parted lips, tongue out, crying,
        floating hair, wet hair, holding hat, adjusting hair, playing with own hair, hand in own
        hair, covering own eyes, shirt lift, unworn hat, wet clothes, undressing, hand on own hip,
        arm around neck, blood on face, food on hair, looking at viewer, standing, from behind,
        cowboy shot, full body, upper body, white background, outdoors, sword, bow (weapon),
        hand on another's head, hands in opposite sleeves, playing with another's hair, bow and
        arrow, one-piece swimsuit pull, one eye closed, holding bow (weapon), dark souls: remake,
        bottle cap, stuffed toy, flower, star (symbol), cat, 2girls, multiple girls, multiple
        boys, faceless male, crowd, best quality, :3, creator:bob hair, series:school uniform,
        rating:safe""",
}
CASES = [(tag.strip(), kind) for kind, text in EXPECTED.items() for tag in text.split(",")]


@pytest.mark.parametrize("tag, kind", CASES)
def test_kinds(tag, kind):
    assert KINDS.of(tag) == kind
    assert KINDS.of(f"({tag.replace(' ', '_').title()}:1.1)") == kind


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("a drawing of someone with long, Blue Hair.", "identity"),
        ("This is a digital drawing of a young woman. She has long", "identity"),
        ("blue hair and green eyes. She wears a white shirt.", "identity"),
        ("arms crossed above the white shirt", "outfit"),
        ("the sun is setting in the background, with a few clouds", "free"),
        ("somebody is looking at the viewer with closed eyes", "free"),
        ("holding a sword and wearing a red dress", "outfit"),
        ("looking at the viewer with her bright blue eyes and long blonde hair", "identity"),
        ("touching her long silver hair", "identity"),
        ("hugging a girl with blonde hair", "identity"),
        ("sitting in red dress", "outfit"),
        ("smile with fangs", "identity"),
        ("long hair blowing in wind", "identity"),
        ("long blue hair and a red dress", "identity"),
        ("she's blonde.", "identity"),
        ("holding a black umbrella", "free"),
        ("sitting with legs crossed and one eye closed", "free"),
        ("tall buildings and old trees in background", "free"),
        ("a tall and slender warrior", "identity"),
    ],
)
def test_a_sentence_is_of_what_is_named_in_it(text, kind):
    """As BLIP and others write captions; clothes beside looks go with these."""
    assert KINDS.of(text) == kind


@pytest.mark.parametrize(
    ("tag", "kind"),
    [
        *(
            ("hair: blonde", "identity"),
            ("eye color: blue", "identity"),
            ("eyes:green", "identity"),
        ),
        *(
            ("**Outfit Colour:** red", "outfit"),
            ("pose: standing", "free"),
            ("nier:automata", "free"),
        ),
        *(("series: the witch with red hair", "free"), ("pose: standing in red dress", "outfit")),
    ],
)
def test_what_stands_before_a_colon_tells_the_kind(tag, kind):
    assert KINDS.of(tag) == kind


def test_long_texts_are_looked_at_in_no_more_time_than_their_length_needs():
    before = time.perf_counter()
    assert KINDS.of("word " * 20_000 + "blue hair") == "identity"
    assert KINDS.of("word" * 20_000) == "free"
    assert time.perf_counter() - before < 5  # of what grows with the square: a minute


def test_what_collect_calls_clothes_is_an_outfit():
    lines = tag_kinds.read_lines(tag_kinds._CLOTHING.read_text())
    assert [line for line in lines if KINDS.of(line) != "outfit"] == []


def test_no_line_has_two_kinds():
    lines = [
        line
        for kind in tag_kinds.KINDS
        for line in tag_kinds.read_lines((tag_kinds._FOLDER / f"{kind}.txt").read_text())
    ]
    assert len(lines) == len(set(lines)) > 1500


COLORS = """aqua black blonde blue brown gold green grey light-blue orange pink purple red white
    yellow""".split()
LPC = {  # the tags of a public set of sprites, put into words by somebody else
    "identity": """
        1girl, 1boy, tan, dark skin, colored skin, purple skin, grey skin, green skin, red skin,
        orc, short hair, bangs, medium hair, long hair, messy hair, twintails, afro, mohawk, hair
        bun, bob cut, parted hair, ponytail, very long hair, hair over shoulder, swept bangs,
        pointy ears, elf, big ears, beard, facial hair, mustache, stubble""",
    "outfit": """
        sleeveless shirt, crop top, tunic, long sleeves, brown vest, purple tabard, robe, dress,
        armor, plate armor, gold armor, leather armor, chainmail, gold boots, grey boots, brown
        belt, white belt, belt, gold gloves, grey gloves, brown bracers, cape, tiara, red bandana,
        brown hat, grey greaves, gold greaves""",
    "free": """
        solo, standing, walking, casting spell, slashing, thrusting, aiming, looking at viewer,
        facing left, facing right, simple background, gradient background""",
}
DYED = {"identity": ("hair", "eyes"), "free": ("background",)}
DYED["outfit"] = ("shirt", "tunic", "robe", "dress", "pants", "shoes", "boots", "cape")


@pytest.mark.parametrize("kind", tag_kinds.KINDS)
def test_of_somebody_else_s_tags_none_of_a_reference_is_left_in_the_prompt(kind):
    dyed = itertools.product(COLORS, DYED[kind])
    tags = [tag.strip() for tag in LPC[kind].split(",")]
    tags += [f"{color} {thing}" for color, thing in dyed]
    assert {tag: KINDS.of(tag) for tag in tags} == dict.fromkeys(tags, kind)


def test_clothing_tags_of_the_records_cover_their_colours_and_spellings():
    kinds = tag_kinds.Kinds(["zorkle", "fake_animal_ears", "Mage \\(x\\)", "dark_red_blorp"])
    assert kinds.of("blorp") == kinds.of("light blue blorp") == "outfit"
    for tag in ("purple zorkle", "Zorkle", "zorkles", "(big zorkle:1.2)", "zorkle on head", "mage"):
        assert kinds.of(tag) == "outfit"
    assert kinds.of("fake animal ears") == "outfit" and kinds.of("animal ears") == "identity"
    assert kinds.of("holding zorkle") == kinds.of("zorkle shop") == "free"


def test_a_name_in_any_spelling_is_an_identity():
    kinds = tag_kinds.Kinds(names=["sendai_(kantai_collection)", "Ann"])
    assert kinds.of(r"(Sendai_\(kantai collection\):1.2)") == "identity"
    assert kinds.of("sendai") == "free"  # of that name alone nobody knows
    assert kinds.of("(ANN:1.2)") == kinds.of("ann_(somewhere)") == "identity"
    assert kinds.of("ann (cosplay)") == "outfit"


@pytest.mark.parametrize("line", ["* (cosplay)", "*(Cosplay)"])
def test_a_user_s_line_may_be_an_end_in_brackets(line):
    assert tag_kinds.Kinds(own=f"[identity]\n{line}\n").of("miku (cosplay)") == "identity"


def test_a_user_s_file_goes_first():
    own = "[Free]\nelf # of the shelf\n* shirt\nbig *\n[outfit]\nsmile\n[identity]\nred shirt\n"
    kinds = tag_kinds.Kinds(["shirt"], ["elf"], own)
    expected = {"elf": "free", "blue shirt": "free", "big hat": "free", "Smile": "outfit"}
    assert {tag: kinds.of(tag) for tag in expected} == expected
    assert kinds.of("red_shirt") == "identity" and kinds.of("dark elf") == "identity"


@pytest.mark.parametrize(
    "line",
    [
        *(
            "zorkfolk (x)",
            r"Zorkfolk_\(x\)",
            "(zorkfolk (x):1.2)",
            '"zorkfolk (x)"',
            "zorkfolk (x);",
        ),
        *(
            "blip, zorkfolk (x)",
            "ｚｏｒｋｆｏｌｋ (x)",
            "[zorkfolk_(x)]",
            "* Zorkfolk_(x)",
            "zorkfolk*, blip",
        ),
        *("zorkfolk *", "blip, * (x)"),
    ],
)
def test_lines_of_a_user_s_file_count_in_the_normal_form(line):
    kinds = tag_kinds.Kinds(own=f"[outfit]\n{line}\n")
    assert kinds.of("zorkfolk_(x)") == kinds.of(r"(zorkfolk \(x\):1.1)") == "outfit"
    assert kinds.of("blip") == ("outfit" if "blip" in line else "free")


@pytest.mark.parametrize("heading", ["[clothes]", "[Cloths]:", "[ free ]\n[identities]"])
def test_an_unknown_heading_is_named(heading):
    with pytest.raises(ValueError, match=r"^'\[\w+\]:?' is no kind: .* \[identity\], \[outfit\]"):
        tag_kinds.parse(f"[identity]\nzork\n{heading}\nblip\n")
    tag_kinds.parse("[identity]\n[blue hair]\n[zork:0.8]\n")  # tags with weights


def test_the_normal_form_is_part_of_the_digest(monkeypatch, tmp_path):
    before = tag_kinds.digest("")
    (tmp_path / "tag_text.py").write_text("")
    monkeypatch.setattr(tag_kinds.tag_text, "__file__", str(tmp_path / "tag_text.py"))
    assert tag_kinds.digest("") != before


@pytest.mark.parametrize(
    "tag", ["lord_of_the_rings", "The Cat in the Hat", "cat_in_the_hat_(cosplay)"]
)
def test_a_name_of_words_is_free_unless_the_records_say_otherwise(tag):
    expected = "outfit" if "cosplay" in tag else "free"
    assert tag_kinds.Kinds().of(tag) == expected
    assert tag_kinds.Kinds([tag]).of(tag) == "outfit"
