"""Fine-tuning and evaluation on a folder of images per class. Needs torch."""
