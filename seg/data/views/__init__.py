"""What a model sees of a sample: preprocessing, crops, warps, random changes, pixel weights."""
