"""One file per augmentation. An operator never imports another one."""
