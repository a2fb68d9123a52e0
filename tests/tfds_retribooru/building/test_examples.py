"""Records on their way to examples."""

from tfds_retribooru.building import examples
from tfds_retribooru.building.examples import Source
from tfds_retribooru.building.records import Fault, Record
from tfds_retribooru.building.rejections import Rejections


def test_a_character_is_called_as_where_it_stands_first(tmp_path):
    """Or one that never trains would train under another spelling."""
    names = ["Sendai", "naka", "sendai", "SENDAI (kai)", "sendai_(kai)"]
    records = [Record(str(k), name, similar=("0",)) for k, name in enumerate(names)]
    source = Source(lambda: iter(records), lambda record: (None, None), 384)
    assert [r.character for r in source.records()] == [
        *("Sendai", "naka", "Sendai", "SENDAI (kai)", "SENDAI (kai)")
    ]
    faults = [item for item in source.items() if isinstance(item, Fault)]
    assert [(f.id, f.part, f.detail) for f in faults] == [
        ("2", "character", "sendai"),
        ("4", "character", "sendai_(kai)"),
    ]
    log = Rejections(tmp_path, 1.0)
    plan = examples.plan_splits(source, log)
    assert plan.similar[2] == ("0",) and plan.split[0] == plan.split[2]
    assert log.counts["character", examples.SPELLED] == 2
