"""Configurations from before a field existed mean what they meant."""

import pytest
from ml_collections import ConfigDict

from configs import composition
from rbjax.experiment import added_fields


def test_a_complete_configuration_is_returned_as_it_is():
    config = composition.get_config()
    assert added_fields.complete(config) is config


@pytest.mark.parametrize("field", sorted(added_fields.ADDED))
def test_a_missing_field_gets_its_old_meaning(field):
    values = composition.get_config().to_dict()
    section, _, name = field.rpartition(".")
    del (values[section] if section else values)[name]
    config = ConfigDict(values).lock()
    completed = added_fields.complete(config)
    there, here = (each[section] if section else each for each in (completed, config))
    assert there[name] == added_fields.ADDED[field]
    assert name not in here
    assert completed.to_dict().keys() == composition.get_config().to_dict().keys()
