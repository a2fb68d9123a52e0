"""From a Danbooru dump to RetriBooru's annotations: `python -m tfds_retribooru.collect --help`."""
