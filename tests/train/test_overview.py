"""What a training prints before it starts."""

from ml_collections import ConfigDict

from rbjax.train import overview


def test_training_longer_says_what_becomes_of_the_learning_rate(capsys):
    """0.25 of the peak is the end of the old cosine, 0.625 the middle of the new one."""
    train = {"warmup_steps": 2, "learning_rate": 0.8, "final_rate": 0.25, "decay_steps": 0}
    config = ConfigDict({"total_steps": 14, "train": train})
    overview.print_learning_rate(config, 8, planned=8)
    output = capsys.readouterr().out
    assert "was 8 and is 14 now" in output and "goes on with 0.5 in place of 0.2." in output
    config.train.decay_steps = 4
    overview.print_learning_rate(config, 4, planned=8)
    assert "falls up to the last step, is the same." in capsys.readouterr().out
    for unchanged in (None, 14):
        overview.print_learning_rate(config, 8, planned=unchanged)
    assert not capsys.readouterr().out
