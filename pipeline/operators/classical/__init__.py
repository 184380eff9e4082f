"""The control: classical augmentation."""
