"""The models: recursive and dense Vision Transformers, their parts, checkpoints and deploy form. Needs torch."""
