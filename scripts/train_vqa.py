"""Trains the small BLIP-VQA that ships with the package and measures it on unseen characters.

python scripts/train_vqa.py --out rbjax/weights/vqa
"""

from rbjax.vqa import train

if __name__ == "__main__":
    train.main(train.parse_args())
