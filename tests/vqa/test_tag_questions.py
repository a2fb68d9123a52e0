"""Questions from tags: what is asked, of whom, and what no rule covers."""

import pytest

from rbjax.vqa import tag_questions
from rbjax.vqa.tag_questions import Rules, complete, coverage, default_rules
from tfds_retribooru.avatars import attributes

# Frequent general tags of Danbooru, without those of anatomy and of how an image was made.
FREQUENT = """
1girl, solo, long_hair, looking_at_viewer, blush, smile, open_mouth, short_hair, simple_background,
shirt, blue_eyes, long_sleeves, skirt, blonde_hair, multiple_girls, black_hair, white_background,
brown_hair, hair_ornament, 1boy, holding, gloves, dress, red_eyes, hat, bow, animal_ears,
closed_mouth, thighhighs, hair_between_eyes, navel, ribbon, jewelry, 2girls, cleavage,
bare_shoulders, very_long_hair, sitting, jacket, twintails, standing, blue_hair, green_eyes,
brown_eyes, white_shirt, purple_eyes, full_body, school_uniform, collarbone, tail, upper_body,
male_focus, closed_eyes, white_hair, yellow_eyes, pink_hair, multicolored_hair, grey_hair, swimsuit,
ahoge, purple_hair, monochrome, braid, short_sleeves, flower, sidelocks, hair_ribbon, ponytail,
weapon, heart, earrings, cowboy_shot, :d, outdoors, hair_bow, pantyhose, sweat, red_hair, bikini,
greyscale, pleated_skirt, frills, open_clothes, parted_lips, teeth, hairband, multiple_boys, horns,
boots, collared_shirt, lying, necktie, shorts, food, wings, black_gloves, sky, one_eye_closed,
alternate_costume, sleeveless, detached_sleeves, pants, green_hair, shoes, choker, japanese_clothes,
pointy_ears, socks, tongue, medium_hair, barefoot, glasses, indoors, hand_up, puffy_sleeves,
black_thighhighs, belt, day, hairclip, fang, serafuku, elbow_gloves, bowtie, 2boys, midriff,
white_gloves, black_skirt, hood, cloud, blunt_bangs, black_footwear, dark_skin, looking_back,
cat_ears, hair_flower, tongue_out, pink_eyes, sailor_collar, sword, white_dress, halo,
looking_at_another, grey_background, holding_weapon, fingerless_gloves, miniskirt, wide_sleeves,
mole, on_back, necklace, streaked_hair, hair_over_one_eye, hair_bun, chibi, off_shoulder,
open_jacket, kimono, nail_polish, two-tone_hair, orange_hair, striped_clothes, tears, black_dress,
grin, black_jacket, from_behind, black_eyes, rabbit_ears, sweatdrop, blurry, bag, coat, water,
from_side, vest, cape, white_thighhighs, armor, scarf, arm_up, leotard, apron, high_heels, sweater,
blue_sky, crop_top, black_pantyhose, parted_bangs, bracelet, collar, arms_up, :o, cup, red_ribbon
"""


@pytest.mark.parametrize(
    "tag, question, answer, kind",
    [
        ("blue_hair", "what color is the hair?", "blue", "identity"),
        ("yellow hair", "what color is the hair?", "blonde", "identity"),
        ("silver_hair", "what color is the hair?", "gray", "identity"),
        ("(red_hair:1.2)", "what color is the hair?", "red", "identity"),
        ("Light_Blue_Eyes", "what color are the eyes?", "blue", "identity"),
        ("very_long_hair", "is the hair long or short?", "long", "identity"),
        ("twintails", "does the person have two ponytails?", "yes", "identity"),
        ("fox_ears", "does the person have fox ears?", "yes", "identity"),
        ("red_skirt", "what color is the skirt?", "red", "outfit"),
        ("black_footwear", "what color is the footwear?", "black", "outfit"),
        ("white_gloves", "what color are the gloves?", "white", "outfit"),
        ("pleated_skirt", "is the person wearing a pleated skirt?", "yes", "outfit"),
        ("apron", "is the person wearing an apron?", "yes", "outfit"),
        ("boots", "is the person wearing boots?", "yes", "outfit"),
        ("smile", "is the person smiling?", "yes", "free"),
        ("closed_eyes", "are the eyes closed?", "yes", "free"),
        (":d", "is the mouth open?", "yes", "free"),
        ("sitting", "is the person sitting?", "yes", "free"),
        ("on_bed", "is the person on a bed?", "yes", "free"),
        ("from_behind", "is the person seen from behind?", "yes", "free"),
        ("grey_background", "what color is the background?", "gray", "free"),
        ("beach", "is there a beach in the background?", "yes", "free"),
        ("2girls", "how many girls are there?", "2", "identity"),
        ("holding_umbrella", "is the person holding an umbrella?", "yes", "free"),
        ("holding_ice_axe", "is the person holding an ice axe?", "yes", "free"),
    ],
)
def test_questions(tag, question, answer, kind):
    asked = default_rules().question(tag)
    assert asked is not None
    assert (asked.text, asked.answer, asked.kind) == (question, answer, kind)


@pytest.mark.parametrize("tag", ["", "hatsune_miku", "hat_1", "absurdres", "(", "a*b"])
def test_tags_without_a_rule_are_not_asked_about(tag):
    assert default_rules().question(tag) is None


def test_tags_with_one_question_share_an_attribute_and_questions_have_one_each():
    rules = default_rules()
    named = [rules.question(t.strip()) for t in FREQUENT.split(",")]
    pairs = {(asked.attribute, asked.text) for asked in named if asked}
    assert len({name for name, _ in pairs}) == len({text for _, text in pairs}) == len(pairs)
    assert rules.question("glasses").attribute == rules.question("round glasses").attribute


def test_answers_that_count_as_one():
    same = default_rules().question("aqua_hair").same
    assert {same.get(said, said) for said in ("aqua", "cyan", "teal")} == {"cyan"}
    assert same["yellow"] == "blonde" and "red" not in same
    assert default_rules().question("yellow_background").same["gold"] == "yellow"


def test_most_of_the_frequent_tags_are_covered():
    rules = default_rules()
    tags = [tag.strip() for tag in FREQUENT.split(",")]
    uncovered = [tag for tag in tags if rules.question(tag) is None]
    assert len(uncovered) / len(tags) < 0.02, uncovered


def test_rules_alone_cover_avatars():
    vocabulary = attributes.vocabulary()
    alone = complete({**vocabulary, "questions": {}})
    assert {entry["attribute"] for entry in alone["tags"].values()} <= alone["questions"].keys()
    kinds = {tag: entry["kind"] for tag, entry in vocabulary["tags"].items()}
    assert {tag: entry["kind"] for tag, entry in alone["tags"].items()} == kinds
    rules = default_rules()
    others = {tag for tag, kind in kinds.items() if rules.question(tag).kind != kind}
    assert others == {"eyepatch", "round glasses", "white sunglasses", "black sunglasses"}


def test_what_a_data_set_asks_itself_stays():
    vocabulary = attributes.vocabulary()
    completed = complete(vocabulary)
    assert completed["questions"] == vocabulary["questions"]
    assert completed["tags"] == vocabulary["tags"]


def test_the_vocabulary_decides_the_kind_and_unknown_tags_get_that_of_the_rule():
    vocabulary = {"tags": {"smile": entry("smile", "identity"), "x": entry("x", "free")}}
    made = complete({**vocabulary, "questions": {}}, more_tags=["red_skirt", "y"])
    assert made["tags"]["smile"] == {"attribute": "smile", "answer": "yes", "kind": "identity"}
    assert made["tags"]["red_skirt"]["kind"] == "outfit"
    assert made["tags"]["x"] == vocabulary["tags"]["x"] and "y" not in made["tags"]
    assert made["questions"].keys() == {"smile", "skirt color"}
    assert made["same"]["what color is the skirt?"]["grey"] == "gray"


def test_a_tag_in_another_spelling_is_that_tag():
    vocabulary = attributes.vocabulary()
    made = complete(vocabulary, more_tags=["Yellow_Hair", "pink background", "Pink_background"])
    tags = vocabulary["tags"]
    assert made["tags"] == {
        **tags,
        "Yellow_Hair": tags["yellow hair"],
        "Pink_background": tags["pink background"],
    }


def entry(tag, kind):
    return {"attribute": tag, "answer": tag, "kind": kind}


def test_tags_that_no_rule_covers_are_listed_with_their_share():
    tags = [["smile", "x"], ["x", "red_skirt"], ["x"], ["y", "smile", "smile_2"]]
    vocabulary = {t: entry(t, "free") for record in tags for t in record}
    found = coverage(tags, complete({"tags": vocabulary, "questions": {}}))
    assert found.share == pytest.approx(3 / 8) and found.tags == 2
    assert found.uncovered == [("x", 3 / 8), ("y", 1 / 8), ("smile_2", 1 / 8)]
    assert coverage([], {"tags": {}, "questions": {}}).share == 0


@pytest.mark.parametrize(
    "text, message",
    [
        ("[", "holds no rules"),
        ("[words]\n[same]", "holds no rules: 'rule'"),
        ('kind = "x"', "the rule 'a' has no sense: kind 'x' is none of identity"),
        ('kind = "free"\nquestion = "x"', "has no question"),
        ('kind = "free"\nask = {"{size} hat" = "?"}', "the rule 'a' has no sense: 'size'"),
        ('kind = "free"\nask = {"{color} hat" = "{the color}?"}', "neither {a ...} nor {is ...}"),
        ('kind = "free"\nsame = "x"\nask = {b = "?"}', "the rule 'a' has no sense: 'x'"),
        ('kind = "free"\nask = {b = ["?"]}', "the rule 'a' has no sense"),
    ],
)
def test_rules_without_sense_are_named(tmp_path, text, message):
    head = '[words]\ncolor = ["red"]\n[same]\n[[rule]]\nclass = "a"\n'
    path = tmp_path / "rules.toml"
    path.write_text(text if text.startswith("[") else head + text + "\n")
    with pytest.raises(ValueError, match=message.replace("{", r"\{").replace("...", r"\.\.\.")):
        Rules(path)


def test_the_file_says_each_tag_once():
    """A tag in two rules would be dead text in the second."""
    seen: dict[str, str] = {}
    content = tag_questions.tomllib.loads(tag_questions.RULES.read_text())
    for rule in content["rule"]:
        for tags in rule["ask"]:
            for tag in map(str.strip, tags.split(",")):
                assert tag not in seen, (tag, rule["class"], seen[tag])
                seen[tag] = rule["class"]
    assert len(seen) > 400
