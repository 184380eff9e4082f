"""Networks, losses and samplers in torch, with their weights, in the notation of their papers."""
