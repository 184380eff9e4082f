"""Style transfer: AdaIN, Gatys et al., fast style networks, and the VGG that they compare by."""
