"""What convert_masks, split_dataset and tile_rasters do, without their command lines."""
