"""A trained classifier for programs without Longtail: exported networks, plain weights, and a model card."""
