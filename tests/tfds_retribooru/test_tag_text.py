"""Tags in one form, whoever wrote them."""

import pytest

from tfds_retribooru import tag_text


@pytest.mark.parametrize(
    "written",
    [
        *("blue hair", "blue_hair", "Blue_Hair", " BLUE  hair ", "blue\u3000hair"),
        *("(blue hair)", "((blue hair))", "[blue hair]", "{{blue_hair}}", "(blue hair:1.2)"),
        *("((blue hair:1.2):.5)", "blue hair:1.05", "(blue hair: 1)", "( blue hair:-0.5 )"),
        *("(blue hair", "blue hair:1.2)", "blue hair)", "((blue hair", "blue hair]]"),
        *("1.2::blue hair::", "-1::blue_hair", "blue hair::", ".5::blue hair ::"),  # NovelAI's
        *("(blue hair)1.2", "(blue_hair)++", "((blue hair))0.5", "'blue hair'"),  # InvokeAI's
        *('"blue hair"', '["blue_hair"', '"blue hair"]', "\ufeffblue\u200b hair"),
        *("blue hair.", "(blue hair:1.2).", "and blue hair.", "And Blue Hair", "“blue hair.”"),
        *("**blue hair**", "*blue hair*", "`blue hair`", "- **blue hair**", "2. blue hair."),
    ],
)
def test_case_underscores_and_weights_do_not_count(written):
    assert tag_text.normal(written) == "blue hair"


@pytest.mark.parametrize(
    "written",
    [
        *("sendai_(kantai_collection)", "Sendai (Kantai Collection)"),
        *(r"sendai \(kantai collection\)", r"sendai_\(kantai_collection\)"),
        *(r"(sendai \(kantai collection\):1.2)", "(sendai (kantai collection):1.2)"),
        *(r"[sendai \(kantai collection\)]", r"sendai \(kantai collection\):1.1)"),
    ],
)
def test_a_qualifier_stays_and_its_escapes_do_not_count(written):
    assert tag_text.normal(written) == "sendai (kantai collection)"
    assert tag_text.bare(written) == "sendai"


@pytest.mark.parametrize(
    "tag",
    [
        *(":)", ":(", ";(", "(:", ":3", "=)", "(o)_(o)", "^_^", "@_@", "?", "", "...", "!?", "!"),
        *("*_*", "- -", ";|", "\\||/"),
    ],
)
def test_emoticons_are_no_weights(tag):
    assert tag_text.normal(tag) == tag.replace("_", " ")


@pytest.mark.parametrize(
    "tag, normal",
    [
        ("nier:automata", "nier:automata"),
        ("re:zero", "re:zero"),
        ("2b_(nier:automata)", "2b (nier:automata)"),
        ("don&#039;t_stop", "don't stop"),
        ("saber_(fate)_(cosplay)", "saber (fate) (cosplay)"),
        ("16:9", "16:9"),
        ("saber (fate)1", "saber (fate)1"),
        ("'90s", "'90s"),
        ("a::b", "a::b"),
        ("rock&lt_roll", "rock&lt roll"),
        *((tag, tag) for tag in ("mr. fuji", "st. louis (azur lane)", "b.b.", "vs.", "no. 6")),
        *((tag, tag) for tag in ("uh...", "k-on!", "and", "2.5 jigen", "hair: blue")),
        ("and_then", "and then"),
    ],
)
def test_what_only_looks_like_a_weight_stays(tag, normal):
    assert tag_text.normal(tag) == normal


def test_all_qualifiers_go_together_and_a_tag_of_nothing_else_stays():
    assert tag_text.bare("saber_(fate)_(cosplay)") == "saber"
    assert tag_text.bare("(9)") == "(9)"


@pytest.mark.parametrize(
    "text",
    [
        *("1girl, blue hair,smile", "1girl,\nblue hair,\n smile,", "1girl\nblue hair\r\nsmile\n"),
        *(",1girl,, blue hair , smile", "1girl, blue hair\nsmile", "1girl，blue hair、smile"),
        *("1girl|blue hair|smile", "1girl. blue hair. smile", "1girl. blue hair. smile."),
        *("1girl BREAK blue hair, smile", "1girl AND blue hair AND smile"),
        *("- 1girl\n- blue hair\n* smile", "1. 1girl\n2. blue hair\n3) smile"),
        *("1girl ||| blue hair, smile", "1girl\rblue hair\rsmile\r"),  # kohya's keep tokens
        *("1girl; blue hair;smile;", "1girl | blue hair | smile", "1girl\tblue hair\tsmile"),
        *(
            "1girl；blue hair；smile",
            "['1girl', 'blue hair', 'smile']",
            '["1girl","blue hair", "smile"]',
        ),
    ],
)
def test_lists_by_comma_or_line(text):
    assert tag_text.split(text) == ["1girl", "blue hair", "smile"]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "1girl: 0.99, blue_hair: 0.98,",
            "1girl:0.99\nblue_hair:1.0\n",
            "1girl\t.99\nblue_hair\t.5",
        ),
        *("1girl (0.99), blue_hair (0.98)", "0.99 1girl\r\n0.98 blue_hair\r\n"),
        *(
            "1girl = 99%; blue_hair = 98.1 %",
            "1girl -> 0.99, blue_hair -> 0.98",
            "1girl|.9\nblue_hair|.8",
        ),
    ],
)
def test_scores_of_a_tagger_are_left_out(text):
    assert tag_text.split(text) == ["1girl", "blue_hair"]


def test_numbers_that_not_all_tags_have_are_no_scores():
    assert tag_text.split("evangelion 1.0, blue_hair") == ["evangelion 1.0", "blue_hair"]
    assert tag_text.split("(1girl:0.5), (smile:0.7)") == ["(1girl:0.5)", "(smile:0.7)"]
    assert tag_text.split("0 0.5 0.25 0.1 0.2") == ["0 0.5 0.25 0.1 0.2"]  # a box of YOLO's
    assert tag_text.split("") == []


def test_what_html_escapes_is_plain():
    assert tag_text.split("don&#039;t, &gt;_&lt;, a_&_b, x&not_y") == [
        "don't",
        ">_<",
        "a_&_b",
        "x&not_y",
    ]


def test_emoticons_with_semicolons_and_bars_stay():
    assert tag_text.split("blue_hair ;) ;d |_| \\||/") == ["blue_hair", ";)", ";d", "|_|", "\\||/"]
    assert tag_text.split("smile, ;d, a;b") == ["smile", ";d", "a;b"]
    assert tag_text.split("|_|") == ["|_|"] and tag_text.split("\\||/ smile") == ["\\||/ smile"]


@pytest.mark.parametrize(
    "tag",
    [
        *(
            "mr. fuji",
            "st. louis (azur lane)",
            "dr. stone",
            "Mrs. Robinson",
            "no. 6",
            "b.b.",
            "...",
        ),
        *(
            "{blonde|golden} hair",
            "BLACK AND WHITE",
            "breakfast",
            "rock and roll",
            "1.5 cats",
            "- -",
        ),
    ],
)
def test_what_only_looks_like_a_list_is_one_tag(tag):
    assert tag_text.split(tag) == [tag]


@pytest.mark.parametrize(
    "text, expected",
    [
        *(("holding sword", False), ("hand in own hair", False), ("playing with own hair", False)),
        *(("hands in opposite sleeves", False), ("hand on another's head", False), ("", False)),
        *(
            ("sitting in red dress", True),
            ("smile with fangs", True),
            ("hands with red gloves", True),
        ),
        *(("she smiles", True), ("wearing hat", True), ("arms up in white shirt", True)),
        ("hand in own hair wearing kimono", True),
    ],
)
def test_clauses_are_longer_than_tags_and_poses(text, expected):
    assert tag_text.is_clause(text) == expected


def test_spaces_split_only_where_underscores_say_so():
    assert tag_text.split("1girl blue_hair ^_^ smile\n") == ["1girl", "blue_hair", "^_^", "smile"]
    assert tag_text.split("a girl with blue hair") == ["a girl with blue hair"]
    assert tag_text.split("blue_hair") == ["blue_hair"] and tag_text.split(" \n") == []


def test_a_name_keeps_what_marks_an_item_of_a_list():
    names = ["1. Girl", "2. Girl", "Anna.", "Anna", "And_Uge"]
    assert [tag_text.name(text) for text in names] == [
        *("1. girl", "2. girl", "anna.", "anna", "and uge"),
    ]


@pytest.mark.parametrize("text", ["20% cooler", "rebuild of evangelion 1.0", "Sgt. Frog"])
def test_one_tag_with_a_number_or_a_title_is_one(text):
    assert tag_text.split(text) == [text]


def test_a_full_stop_does_not_join_tags_of_danbooru():
    assert tag_text.split("1girl monsters_inc. hat") == ["1girl", "monsters_inc.", "hat"]
