"""Networks, losses and samplers in torch, with their weights, under the letters of their papers."""
