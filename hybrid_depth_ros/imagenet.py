"""ImageNet's normalisation, which nearly every pretrained encoder takes: (rgb / 255 - mean) / std.
"""

IMAGENET_MEAN = (0.485, 0.456, 0.406)   # R, G, B
IMAGENET_STD = (0.229, 0.224, 0.225)
