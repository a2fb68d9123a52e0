"""The embedded data set: illustrated avatars with known identity, outfit and expression."""
