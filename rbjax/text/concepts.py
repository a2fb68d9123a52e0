"""The concepts that a reference can be given for, and what each of them carries (paper, Tasks)."""

CONCEPTS = ("face", "clothes", "character")  # the concept words; "character" is the whole picture
FACE, CLOTHES, CHARACTER = range(len(CONCEPTS))  # indices into CONCEPTS
CARRIED = {FACE: {"identity"}, CLOTHES: {"outfit"}, CHARACTER: {"identity", "outfit"}}  # tag kinds
